-- Results: scores, recipes and runs.

create or replace view scores as
select s.model_id, n.name as model, s.task, s.metric, s.value, s.stderr, s.n, s.harness, s.harness_version, s.shots,
       s.origin, s.source, s.scored_at
from store.score s join store.named n on n.id = s.model_id;
comment on view scores is 'One row per benchmark result';
comment on column scores.model_id is 'Model that was scored';
comment on column scores.model is 'Name of that model';
comment on column scores.task is 'Benchmark or suite';
comment on column scores.metric is 'Metric as its source names it';
comment on column scores.value is 'Value in the unit of its source, never converted';
comment on column scores.stderr is 'Standard error in the unit of value';
comment on column scores.n is 'Number of examples';
comment on column scores.harness is 'Program that measured';
comment on column scores.harness_version is 'Version of that program or of its task';
comment on column scores.shots is 'Number of examples shown in the prompt';
comment on column scores.origin is 'claimed: somebody says so; measured: this program measured these weights';
comment on column scores.source is 'File or address it was read from';
comment on column scores.scored_at is 'Date as its source gives it';

create or replace view recipes as
select r.digest, r.canonical ->> '$.method' as method, r.canonical, count(u.id) as n_runs, r.created_at
from store.recipe r left join store.run u on u.recipe = r.digest
group by r.digest, r.canonical, r.created_at;
comment on view recipes is 'One row per distinct recipe';
comment on column recipes.digest is 'Hex digest of the canonical form';
comment on column recipes.method is 'Merge method';
comment on column recipes.canonical is 'Canonical form as JSON text, parents pinned by id';
comment on column recipes.n_runs is 'How often it was run';
comment on column recipes.created_at is 'When it was first run';

create or replace view runs as
select u.id, u.recipe, u.status, u.output, u.model_id, n.name as model, u.engine_version, u.process, u.started_at,
       u.ended_at, u.seconds, u.read_bytes, u.write_bytes, u.error, u.state
from store.run u left join store.named n on n.id = u.model_id;
comment on view runs is 'One row per execution of a recipe';
comment on column runs.id is 'Identity of the run';
comment on column runs.recipe is 'Digest of the recipe';
comment on column runs.status is 'STARTED, then exactly one of COMPLETE, FAILED, ABORTED';
comment on column runs.output is 'Folder of the result';
comment on column runs.model_id is 'Model it made; null unless COMPLETE';
comment on column runs.model is 'Name of that model';
comment on column runs.engine_version is 'Version of Homolog';
comment on column runs.process is 'Number of the process';
comment on column runs.started_at is 'When it started';
comment on column runs.ended_at is 'When it ended';
comment on column runs.seconds is 'Duration, seconds';
comment on column runs.read_bytes is 'Tensor bytes read';
comment on column runs.write_bytes is 'Tensor bytes written';
comment on column runs.error is 'Why it failed';
comment on column runs.state is 'What the method needs to go on merging into the result, as JSON: name → number; null for most methods';
