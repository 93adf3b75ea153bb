-- Aliases: names of our own for models, and their history. Here they are spelled as people type them, with the @.

create or replace view aliases as
with last as (
    from store.alias_event qualify row_number() over (partition by name order by step desc) = 1
)
select '@' || a.name as alias, a.model_id, n.name as model, l.changed_at as since, l.who, l.why,
       coalesce(l.step, 0) as n_changes
from store.alias a
left join store.nodes((select to_json(list(model_id)) from store.alias)) n on n.id = a.model_id
left join last l on l.name = a.name;
comment on view aliases is 'One row per alias: a name of our own for a model';
comment on column aliases.alias is 'The alias, as it is typed where a model is asked for';
comment on column aliases.model_id is 'Model that it names';
comment on column aliases.model is 'Name of that model';
comment on column aliases.since is 'Since when it names this model';
comment on column aliases.who is 'User who made it so, as the system names them';
comment on column aliases.why is 'Why, in their words; null where nothing was said';
comment on column aliases.n_changes is 'Number of changes of this alias, the first time it was set among them';

create or replace view alias_events as
select '@' || name as alias, step, changed_at, who, old_name as old_model, new_name as new_model, why, old_id, new_id
from store.alias_event;
comment on view alias_events is 'One row per change of an alias, also of aliases and models that are gone';
comment on column alias_events.alias is 'The alias';
comment on column alias_events.step is 'Number of the change of this alias, from 1';
comment on column alias_events.changed_at is 'When it was made';
comment on column alias_events.who is 'User who made it, as the system names them';
comment on column alias_events.old_model is 'What the model that it named before was called then; null where there was no such alias';
comment on column alias_events.new_model is 'What the model that it named from then on was called then; null where the alias was removed';
comment on column alias_events.why is 'Why, in their words; null where nothing was said';
comment on column alias_events.old_id is 'Id of the model that it named before, which may be gone';
comment on column alias_events.new_id is 'Id of the model that it named from then on, which may be gone';
