-- The tables of the catalog. Keys are given by the application; foreign keys are not emitted on DuckDB
-- (they block updates and most ALTERs there), `reg doctor` looks for orphans instead.
-- The views in views/ are what people query; these tables may change with a migration.

create schema if not exists store;

create table store.migration (
    version    integer primary key,
    name       varchar not null,
    applied_at timestamptz not null
);
comment on table store.migration is 'Migrations applied to this file';
comment on column store.migration.version is 'Number of the migration';
comment on column store.migration.name is 'Name of its file';
comment on column store.migration.applied_at is 'When it was applied';

create table store.setting (
    key   varchar primary key,
    value varchar not null
);
comment on table store.setting is 'Facts about this file: digest of its views; whether claims wait to be resolved';
comment on column store.setting.key is 'Name of the fact';
comment on column store.setting.value is 'The fact';

create table store.model (
    id           varchar primary key,
    kind         varchar not null,
    status       varchar not null,
    digest_name  varchar not null,
    signature    varchar,
    dtype        varchar,
    n_params     bigint,
    n_bytes      bigint,
    n_tensors    bigint,
    created_at   timestamptz not null
);
comment on table store.model is 'Nodes of the lineage graph: one row per distinct weights';
comment on column store.model.id is 'Hex digest of the canonical tensor content (status full), of headers and address (header), of a claimed name (latent)';
comment on column store.model.kind is 'model or adapter';
comment on column store.model.status is 'full: every byte digested; header: headers only; latent: somebody names it, nobody has shown it';
comment on column store.model.digest_name is 'Name of the digest that made id; records every setting that changes its value';
comment on column store.model.signature is 'Hex digest of the tensor names and shapes, vocabulary size and dtype left out';
comment on column store.model.dtype is 'Dtype of most of the bytes, as safetensors spells it';
comment on column store.model.n_params is 'Number of stored parameters';
comment on column store.model.n_bytes is 'Size of the tensors, bytes';
comment on column store.model.n_tensors is 'Number of stored tensors';
comment on column store.model.created_at is 'When this catalog first saw it';

create table store.address (
    uri          varchar primary key,
    root         varchar not null,
    model_id     varchar not null,
    source       varchar not null,
    layout       varchar not null,
    name         varchar not null,
    architecture varchar,
    family       varchar,
    tokenizer    varchar,
    license      varchar,
    config       varchar not null,
    known_since  timestamptz not null,
    seen_at      timestamptz not null
);
comment on table store.address is 'Places where a model was found';
comment on column store.address.uri is 'Absolute path, or hf-cache:org/name@commit';
comment on column store.address.root is 'Absolute path of the folder or file';
comment on column store.address.model_id is 'Model found there (store.model.id)';
comment on column store.address.source is 'local or hf-cache';
comment on column store.address.layout is 'folder or file';
comment on column store.address.name is 'Name people use: folder name, file stem or org/name';
comment on column store.address.architecture is 'First of config architectures, for example LlamaForCausalLM';
comment on column store.address.family is 'config model_type, for example llama';
comment on column store.address.tokenizer is 'Hex digest of the tokenizer; null where there is none';
comment on column store.address.license is 'Licence as its card says it; null where it says nothing';
comment on column store.address.config is 'config.json or adapter_config.json as JSON text';
comment on column store.address.known_since is 'When a model was first found there';
comment on column store.address.seen_at is 'When it was last found changed';

create table store.file (
    uri        varchar not null,
    path       varchar not null,
    size_bytes bigint not null,
    mtime_ns   bigint not null,
    inode      bigint not null,
    format     varchar not null,
    primary key (uri, path)
);
comment on table store.file is 'Files of every address, good or bad; what a second scan compares';
comment on column store.file.uri is 'Address it belongs to';
comment on column store.file.path is 'Path below the address';
comment on column store.file.size_bytes is 'Size, bytes';
comment on column store.file.mtime_ns is 'Time of the last change, nanoseconds since 1970';
comment on column store.file.inode is 'Inode number, 0 where the file system has none';
comment on column store.file.format is 'safetensors, index, config, tokenizer, card, pickle, gguf, …';

create table store.tensor (
    model_id varchar not null,
    name     varchar not null,
    dtype    varchar not null,
    shape    varchar not null,
    n_params bigint not null,
    n_bytes  bigint not null,
    layer    integer,
    module   varchar not null,
    digest   varchar,
    primary key (model_id, name)
);
comment on table store.tensor is 'Tensors of every model';
comment on column store.tensor.model_id is 'Model it belongs to';
comment on column store.tensor.name is 'Name as stored';
comment on column store.tensor.dtype is 'Dtype as safetensors spells it';
comment on column store.tensor.shape is 'Shape as a JSON list';
comment on column store.tensor.n_params is 'Number of elements';
comment on column store.tensor.n_bytes is 'Size, bytes';
comment on column store.tensor.layer is 'Number of the layer, from 0; null outside of layers';
comment on column store.tensor.module is 'Part it plays: embedding, attention_q, mlp_down, norm, lm_head, …';
comment on column store.tensor.digest is 'Hex digest of dtype, shape and bytes; null when only headers were read';

create table store.claim (
    id          varchar primary key,
    uri         varchar not null,
    model_id    varchar not null,
    predicate   varchar not null,
    object      varchar not null,
    relation    varchar,
    coefficient double,
    source      varchar not null,
    raw         varchar not null,
    resolved_id varchar
);
comment on table store.claim is 'What somebody says about a model, word for word';
comment on column store.claim.id is 'Hex digest of address, source, predicate and object';
comment on column store.claim.uri is 'Address where it is said';
comment on column store.claim.model_id is 'Model it is said of';
comment on column store.claim.predicate is 'base_model, merge_parent, relation or license';
comment on column store.claim.object is 'What is claimed, raw text';
comment on column store.claim.relation is 'Kind of descent claimed: finetune, merge, adapter, quantized, …';
comment on column store.claim.coefficient is 'Weight of a merge parent where the source gives one';
comment on column store.claim.source is 'Where it hides: card, adapter_config, config, mergekit_config, metadata or sidecar';
comment on column store.claim.raw is 'The snippet it was read from, cut to 2,000 characters';
comment on column store.claim.resolved_id is 'Model the object was found to name; null while unknown or not a model';

create table store.edge (
    child       varchar not null,
    parent      varchar not null,
    relation    varchar not null,
    role        varchar not null,
    status      varchar not null,
    coefficient double,
    confidence  double not null,
    run_id      varchar,
    created_at  timestamptz not null,
    primary key (child, parent, relation, role, status)
);
comment on table store.edge is 'Edges of the lineage graph; declared, measured, inferred and recorded live side by side';
comment on column store.edge.child is 'Model that descends';
comment on column store.edge.parent is 'Model it descends from';
comment on column store.edge.relation is 'finetune, continued_pretrain, adapter, merge, quantized, cast, copy, …';
comment on column store.edge.role is 'parent, or in a merge: base or model';
comment on column store.edge.status is 'declared: somebody says so; measured: the bytes prove it; inferred: the weights suggest it; recorded: our own run did it';
comment on column store.edge.coefficient is 'Weight in a merge; null where it has none';
comment on column store.edge.confidence is 'Probability that the edge is right, 0 to 1';
comment on column store.edge.run_id is 'Run that made the child; null unless recorded';
comment on column store.edge.created_at is 'When the edge was written';

create table store.evidence (
    id        varchar primary key,
    child     varchar not null,
    parent    varchar not null,
    relation  varchar not null,
    status    varchar not null,
    method    varchar not null,
    version   varchar not null,
    statistic varchar not null,
    value     double,
    scope     varchar not null,
    detail    varchar not null
);
comment on table store.evidence is 'Reasons for edges';
comment on column store.evidence.id is 'Hex digest of the reason';
comment on column store.evidence.child is 'Child of the edge';
comment on column store.evidence.parent is 'Parent of the edge';
comment on column store.evidence.relation is 'Relation of the edge';
comment on column store.evidence.status is 'Status of the edge';
comment on column store.evidence.method is 'How it was found: claim, digest, cast, run, delta, …';
comment on column store.evidence.version is 'Version of that method';
comment on column store.evidence.statistic is 'Name of the statistic';
comment on column store.evidence.value is 'Its value, unit as the statistic says';
comment on column store.evidence.scope is 'What was read: header, sampled or full';
comment on column store.evidence.detail is 'The reason in words';

create table store.score (
    id              varchar primary key,
    model_id        varchar not null,
    task            varchar not null,
    metric          varchar not null,
    value           double not null,
    stderr          double,
    n               bigint,
    harness         varchar,
    harness_version varchar,
    shots           bigint,
    origin          varchar not null,
    source          varchar not null,
    scored_at       varchar,
    raw             varchar not null
);
comment on table store.score is 'Benchmark results, tied to weights';
comment on column store.score.id is 'Hex digest of model, task, metric, harness, version, shots, origin and source';
comment on column store.score.model_id is 'Model that was scored';
comment on column store.score.task is 'Benchmark or suite';
comment on column store.score.metric is 'Metric as its source names it';
comment on column store.score.value is 'Value in the unit of its source, never converted';
comment on column store.score.stderr is 'Standard error in the unit of value';
comment on column store.score.n is 'Number of examples';
comment on column store.score.harness is 'Program that measured';
comment on column store.score.harness_version is 'Version of that program or of its task';
comment on column store.score.shots is 'Number of examples shown in the prompt';
comment on column store.score.origin is 'claimed: somebody says so; measured: this program measured these weights';
comment on column store.score.source is 'File or address it was read from';
comment on column store.score.scored_at is 'Date as its source gives it';
comment on column store.score.raw is 'The entry it was read from, cut to 2,000 characters';

create table store.recipe (
    digest     varchar primary key,
    canonical  varchar not null,
    created_at timestamptz not null
);
comment on table store.recipe is 'What was asked of merges, in canonical form';
comment on column store.recipe.digest is 'Hex digest of canonical';
comment on column store.recipe.canonical is 'Canonical recipe as JSON text, parents pinned by model id';
comment on column store.recipe.created_at is 'When it was first run';

create table store.run (
    id             varchar primary key,
    recipe         varchar not null,
    status         varchar not null,
    output         varchar not null,
    model_id       varchar,
    engine_version varchar not null,
    process        bigint not null,
    started_at     timestamptz not null,
    ended_at       timestamptz,
    seconds        double,
    read_bytes     bigint,
    write_bytes    bigint,
    error          varchar
);
comment on table store.run is 'Executions of recipes';
comment on column store.run.id is 'Identity of the run';
comment on column store.run.recipe is 'Recipe that was run (store.recipe.digest)';
comment on column store.run.status is 'STARTED, then exactly one of COMPLETE, FAILED, ABORTED';
comment on column store.run.output is 'Folder the result was written to';
comment on column store.run.model_id is 'Model it made; null unless COMPLETE';
comment on column store.run.engine_version is 'Version of Homolog';
comment on column store.run.process is 'Number of the process that ran it';
comment on column store.run.started_at is 'When it started';
comment on column store.run.ended_at is 'When it ended';
comment on column store.run.seconds is 'Duration, seconds';
comment on column store.run.read_bytes is 'Tensor bytes read';
comment on column store.run.write_bytes is 'Tensor bytes written';
comment on column store.run.error is 'Why it failed';

create table store.problem (
    uri     varchar not null,
    file    varchar not null,
    error   varchar not null,
    detail  varchar not null,
    seen_at timestamptz not null,
    primary key (uri, file, error)
);
comment on table store.problem is 'Files and metadata that could not be used';
comment on column store.problem.uri is 'Address it was found at';
comment on column store.problem.file is 'File below the address';
comment on column store.problem.error is 'Name of the error';
comment on column store.problem.detail is 'What is wrong, in words';
comment on column store.problem.seen_at is 'When it was found';

-- The few ways in which point questions are asked of a million models. (DuckDB changes no table that has an index in
-- any other way than by adding columns: a migration drops it first and makes it again.)
create index address_model on store.address (model_id);
create index claim_resolved on store.claim (resolved_id);
create index edge_child on store.edge (child);
create index edge_parent on store.edge (parent);
