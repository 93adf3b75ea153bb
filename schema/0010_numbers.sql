-- Numbers: small ones beside ids, by which the graph is walked. Ids are 16 times as long, and so are their indexes. Numbers
-- follow from ids and edges; every writer settles them before it commits.

alter table store.model add column number integer;
comment on column store.model.number is 'Small number of the model in this catalog, for edges to refer to';
update store.model set number = n.number
from (select id, row_number() over (order by id) as number from store.model) n where model.id = n.id;

-- DuckDB makes no index of what was changed in the same transaction, so the table is made anew.
create temp table numbered as
select e.*, c.number as child_number, p.number as parent_number from store.edge e
left join store.model c on c.id = e.child left join store.model p on p.id = e.parent
order by e.parent, e.child;
drop table store.edge;
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
    child_number  integer,
    parent_number integer,
    primary key (child, parent, relation, role, status)
);
create index edge_child on store.edge (child_number);
create index edge_parent on store.edge (parent_number);
insert into store.edge by name select * from numbered;
drop table numbered;
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
comment on column store.edge.child_number is 'store.model.number of the child; null where there is no such model';
comment on column store.edge.parent_number is 'store.model.number of the parent; null where there is no such model';


-- Tensors without an index: most of a catalog's rows. Their key, (model_id, name), is kept by whoever writes them.

create table store.unkeyed as from store.tensor order by model_id, name;
drop table store.tensor;
create table store.tensor (
    model_id varchar not null,
    name     varchar not null,
    dtype    varchar not null,
    shape    varchar not null,
    n_params bigint not null,
    n_bytes  bigint not null,
    layer    integer,
    module   varchar not null,
    digest   varchar
);
insert into store.tensor from store.unkeyed;
drop table store.unkeyed;
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

comment on column store.component.id is 'Digest of all it follows from: the rules'' sources, the models'' ids, dtypes and which of their entries were looked at, and what is claimed of them';
comment on column store.component.found is 'JSON list of edges, names of latent parents, the root, and searches that found nothing: keys of each and of its parts, in a line';
