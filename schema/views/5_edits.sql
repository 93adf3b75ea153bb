-- Edits: what became of the scores of a model when it was edited.

-- More of these is worse; of every other metric more is better.
create or replace macro store.less_is_better(metric) as
    regexp_matches(lower(metric), 'perplexity|(^|_)ppl|loss|bits_per_|(^|_)(wer|cer|mse|mae|rmse|brier_score)($|_|,)');

-- One score for each model and subject: of several sources the first by name.
create or replace view edits as
with made as (
    select child, run_id, min(parent) as parent from store.edge
    where status = 'recorded' and role <> 'base' and run_id is not null
    group by child, run_id having count(distinct parent) = 1
), edited as (
    select distinct m.child, m.parent, r.canonical ->> '$.method' as method
    from made m
    join store.run u on u.id = m.run_id
    join store.recipe r on r.digest = u.recipe
), scored as (
    select model_id, task, metric, harness, harness_version, shots, origin,
           min_by({'value': value, 'stderr': stderr, 'n': n}, source) as score
    from store.score group by all
), compared as (
    select e.child, e.parent, e.method, b.task, b.metric, b.harness, b.shots, b.origin,
           b.score.value as parent_value, b.score.stderr as parent_stderr,
           a.score.value as child_value, a.score.stderr as child_stderr,
           a.score.value - b.score.value as difference,
           sqrt(b.score.stderr ** 2 + a.score.stderr ** 2) as difference_stderr
    from edited e
    join scored b on b.model_id = e.parent
    join scored a on a.model_id = e.child and a.task = b.task and a.metric = b.metric and a.origin = b.origin
        and a.harness is not distinct from b.harness and a.harness_version is not distinct from b.harness_version
        and a.shots is not distinct from b.shots
)
select c.child, c.parent, n.name as child_name, p.name as parent_name, c.method, c.task, c.metric, c.harness, c.shots,
       c.origin, c.parent_value, c.parent_stderr, c.child_value, c.child_stderr, c.difference, c.difference_stderr,
       case when c.difference_stderr is null then null
            when abs(c.difference) <= 2 * c.difference_stderr then 'competitive'
            when (c.difference > 0) <> store.less_is_better(c.metric) then 'improved'
            else 'decreased' end as class
from compared c
join store.named n on n.id = c.child
join store.named p on p.id = c.parent;
comment on view edits is 'One row per score that a model made from one other by our run shares with that other';
comment on column edits.child is 'Model that was made';
comment on column edits.parent is 'Model it was made from; the base of its task vector does not count';
comment on column edits.child_name is 'Name of the child';
comment on column edits.parent_name is 'Name of the parent';
comment on column edits.method is 'Method of the recipe: bitdelta, dare, expo, …';
comment on column edits.task is 'Benchmark or suite';
comment on column edits.metric is 'Metric as its source names it';
comment on column edits.harness is 'Program that measured both';
comment on column edits.shots is 'Number of examples shown in the prompt';
comment on column edits.origin is 'claimed or measured, of both';
comment on column edits.parent_value is 'Score of the parent, unit of its source';
comment on column edits.parent_stderr is 'Its standard error, unit of the value';
comment on column edits.child_value is 'Score of the child, unit of its source';
comment on column edits.child_stderr is 'Its standard error, unit of the value';
comment on column edits.difference is 'child_value − parent_value, unit of the values';
comment on column edits.difference_stderr is 'Standard error of the difference if the two errors are independent; null where one is unknown';
comment on column edits.class is 'competitive: at most two standard errors apart; improved; decreased; null where an error is unknown';
