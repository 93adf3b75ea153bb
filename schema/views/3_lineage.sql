-- Lineage: who descends from whom, who says so, and what contradicts it.

-- The numbers of models, for a JSON list of ids: what edges are looked up by, fast however many others there are.
create or replace macro store.numbers(ids) as table
select number from store.model where id in (select store.each(ids));

create or replace view edges as
select e.child, e.parent, c.name as child_name, p.name as parent_name, e.relation, e.role, e.status, e.coefficient,
       e.confidence, e.run_id, e.created_at
from store.edge e
join store.named c on c.id = e.child
join store.named p on p.id = e.parent;
comment on view edges is 'One row per edge of the lineage graph and status';
comment on column edges.child is 'Model that descends';
comment on column edges.parent is 'Model it descends from';
comment on column edges.child_name is 'Name of the child';
comment on column edges.parent_name is 'Name of the parent';
comment on column edges.relation is 'finetune, continued_pretrain, adapter, merge, quantized, cast, …';
comment on column edges.role is 'parent, or in a merge: base or model';
comment on column edges.status is 'declared (somebody says so), measured (the bytes prove it), inferred (the weights suggest it), recorded (our run did it)';
comment on column edges.coefficient is 'Weight in a merge; null where it has none';
comment on column edges.confidence is 'Probability that the edge is right, 0 to 1';
comment on column edges.run_id is 'Run that made the child; null unless recorded';
comment on column edges.created_at is 'When the edge was written';

-- Of a model that is only listed, the listing is the one reason for all its edges; it is not written once more.
create or replace view evidence as
with reason as (
    select id, child, parent, relation, status, method, version, statistic, value, scope, detail from store.evidence
    union all
    select substr(e.child, 1, 32) || substr(e.parent, 1, 32), e.child, e.parent, e.relation, 'declared', 'claim', '1',
           'trust', e.confidence, 'header', 'a listing says so'
    from store.edge e join store.model m on m.id = e.child and m.status = 'listed'
    where e.status = 'declared'
)
select v.id, v.child, v.parent, c.name as child_name, p.name as parent_name, v.relation, v.status, v.method,
       v.version, v.statistic, v.value, v.scope, v.detail
from reason v
join store.named c on c.id = v.child
join store.named p on p.id = v.parent;
comment on view evidence is 'One row per reason for an edge';
comment on column evidence.id is 'Hex digest of the reason';
comment on column evidence.child is 'Child of the edge';
comment on column evidence.parent is 'Parent of the edge';
comment on column evidence.child_name is 'Name of the child';
comment on column evidence.parent_name is 'Name of the parent';
comment on column evidence.relation is 'Relation of the edge';
comment on column evidence.status is 'Status of the edge';
comment on column evidence.method is 'How it was found: claim, cast, run, …';
comment on column evidence.version is 'Version of that method';
comment on column evidence.statistic is 'Name of the statistic';
comment on column evidence.value is 'Its value, unit as the statistic says';
comment on column evidence.scope is 'What was read: header, sampled or full';
comment on column evidence.detail is 'The reason in words';

-- Claims, with those of listings that are not rows of their own.
create or replace view store.said as
select uri, model_id, predicate, object, relation, coefficient, source, raw, resolved_id from store.claim
union all
select s.uri, s.model_id, s.said.predicate, s.said.object, s.said.relation, null, 'listing', s.said.raw,
       coalesce(there.model_id, case when s.said.node <> s.model_id then s.said.node end)
from (
    select a.uri, a.model_id, unnest(from_json(a.says, '[{"predicate": "VARCHAR", "object": "VARCHAR",
           "relation": "VARCHAR", "raw": "VARCHAR", "node": "VARCHAR"}]')) as said
    from store.address a join store.model m on m.id = a.model_id and m.status = 'listed'
    where a.says is not null
) s
left join store.address there on there.uri = 'hf://' || s.said.object and s.said.predicate = 'base_model';
comment on view store.said is 'Claims of files and listings';
comment on column store.said.uri is 'Address where it is said';
comment on column store.said.model_id is 'Model it is said of';
comment on column store.said.predicate is 'base_model, merge_parent, relation or license';
comment on column store.said.object is 'What is claimed, raw text';
comment on column store.said.relation is 'Kind of descent claimed';
comment on column store.said.coefficient is 'Weight of a merge parent where the source gives one';
comment on column store.said.source is 'card, adapter_config, config, mergekit_config, metadata, sidecar, gguf or listing';
comment on column store.said.raw is 'The snippet it was read from, cut to 2,000 characters';
comment on column store.said.resolved_id is 'Model the object names; null where it names none';

-- The licences that models claim, and where, for a JSON list of ids; by indexes, so fast however many others there are.
create or replace macro store.licences(ids) as table
select model_id, object, uri from store.claim where predicate = 'license' and model_id in (select store.each(ids))
union
select model_id, said.object, uri from (
    select model_id, uri, unnest(from_json(says, '[{"predicate": "VARCHAR", "object": "VARCHAR"}]')) as said
    from store.address where model_id in (select store.each(ids))
) where said.predicate = 'license';

create or replace view claims as
select c.model_id, n.name as model, c.predicate, c.object, c.relation, c.coefficient, c.source, c.resolved_id,
       r.name as resolved, c.uri, c.raw
from store.said c
join store.named n on n.id = c.model_id
left join store.named r on r.id = c.resolved_id;
comment on view claims is 'One row per thing somebody says about a model';
comment on column claims.model_id is 'Model it is said of';
comment on column claims.model is 'Name of that model';
comment on column claims.predicate is 'base_model, merge_parent, relation or license';
comment on column claims.object is 'What is claimed, raw text';
comment on column claims.relation is 'Kind of descent claimed';
comment on column claims.coefficient is 'Weight of a merge parent where the source gives one';
comment on column claims.source is 'card, adapter_config, config, mergekit_config, metadata, sidecar, gguf or listing';
comment on column claims.resolved_id is 'Model the object names; null where it names none';
comment on column claims.resolved is 'Name of that model';
comment on column claims.uri is 'Address where it is said';
comment on column claims.raw is 'The snippet it was read from, cut to 2,000 characters';

-- (Of licences only what differs from parent to child; what whole ancestries ask for `reg licenses` tells.)
create or replace view conflicts as
with said as (
    select model_id, resolved_id, source, uri from store.claim
    where predicate = 'base_model' and resolved_id is not null
      and not exists (select 1 from store.edge e where e.child = model_id and e.relation = 'merge')
), several as (
    select model_id from said group by model_id
    having count(distinct resolved_id) > 1 and count(distinct source || ' of ' || uri) > 1
), shown as (  -- what the weights show; the base of a merge is no parent, and copies have no direction
    select e.child, e.parent, e.relation, e.confidence from store.edge e
    where e.status = 'inferred' and e.role <> 'base' and e.relation not in ('copy', 'cast', 'permuted')
), read as (
    select id from store.model where status not in ('latent', 'listed')
), declared as materialized (  -- millions of others are declared by listings alone
    select * from store.edge where status = 'declared' and child in (select id from read)
), descended as materialized (
    select distinct child, parent from store.edge where child in (select id from read)
), own as (
    select a.model_id, min_by(a.license, a.uri) as license from store.address a
    where a.model_id in (select id from read) group by a.model_id
), asked as (
    select d.child, d.parent, min_by(a.license, a.uri) as license from descended d
    join store.address a on a.model_id = d.parent where a.license is not null group by d.child, d.parent
), found as (
    select 'claims_disagree' as kind, s.model_id as child, s.resolved_id as parent,
           s.source || ' names it as the base, another source names another' as detail
    from said s semi join several v on v.model_id = s.model_id
    union
    select 'claim_refuted', e.child, e.parent,
           'declared a ' || e.relation || ', but cosine ' || printf('%.3f', d.cosine_matrices) || ' and relative L2 '
               || printf('%.3f', d.relative_l2) || ': the weights have nothing in common'
    from store.edge e
    join delta_summary d on d.child_id = e.child and d.base_id = e.parent
    where e.status = 'declared' and d.cosine_matrices < 0.5
    union
    select case when v.method = 'strangers' then 'claim_refuted' else 'claim_contradicted' end, e.child, e.parent,
           'declared a ' || e.relation || ' of it, but ' || v.detail || coalesce(': '
               || string_agg(i.relation || ' of ' || p.name, ' and ' order by p.name)
               || ' (confidence ' || printf('%.2f', min(i.confidence)) || ')', '')
    from store.edge e
    join store.evidence v on v.child = e.child and v.parent = e.parent and v.relation = e.relation
    left join shown i on i.child = e.child
    left join store.named p on p.id = i.parent
    where e.status = 'declared' and v.status = 'inferred' and v.statistic = 'claim_probability'
    group by e.child, e.parent, e.relation, v.method, v.detail
    union
    select 'parent_undeclared', i.child, i.parent,
           'the weights show a ' || i.relation || ' of it (confidence ' || printf('%.2f', i.confidence)
               || '), which nobody declares'
    from shown i
    where i.confidence >= 0.8 and i.relation in ('merge', 'frankenmerge')
      and not exists (select 1 from store.edge o
                      where o.child = i.child and o.parent = i.parent and o.status <> 'inferred')
    union
    select 'shapes_differ', e.child, e.parent,
           'declared a ' || e.relation || ', but tensor names or shapes are not the parent''s'
    from declared e
    join store.model m on m.id = e.child and m.kind = 'model' and m.signature is not null
    join store.model q on q.id = e.parent and q.kind = 'model' and q.signature is not null
    where e.status = 'declared' and e.relation in ('finetune', 'continued_pretrain', 'merge')
      and m.signature <> q.signature
    union
    select 'parents_of_each_other', e.child, e.parent, 'each is declared a descendant of the other'
    from declared e
    join store.edge f on f.child = e.parent and f.parent = e.child
    where f.status = 'declared'
      and (e.child < e.parent or e.parent not in (select id from read))
    union
    select 'license_dropped', e.child, e.parent,
           'the parent is under ' || e.license || ', the child says ' || coalesce(m.license, 'nothing')
    from asked e left join own m on m.model_id = e.child
    where m.license is distinct from e.license
)
select f.kind, f.child as child_id, c.name as child, f.parent as parent_id, p.name as parent, f.detail
from found f
join store.named c on c.id = f.child
join store.named p on p.id = f.parent;
comment on view conflicts is 'One row per contradiction: between claims, or between a claim and the bytes, about models whose files were read';
comment on column conflicts.kind is 'claims_disagree, claim_refuted, claim_contradicted, parent_undeclared, shapes_differ, parents_of_each_other or license_dropped';
comment on column conflicts.child_id is 'Model the claim is about';
comment on column conflicts.child is 'Name of that model';
comment on column conflicts.parent_id is 'Parent it names';
comment on column conflicts.parent is 'Name of that parent';
comment on column conflicts.detail is 'What contradicts what';
