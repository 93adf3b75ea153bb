-- Aliases: names of our own for models, and all that was ever done to them. What an alias means now is a row that is changed;
-- what it meant before stays: nothing is ever taken from the events.

create table store.alias (
    name     varchar not null,
    model_id varchar not null,
    primary key (name)
);
comment on table store.alias is 'Names of our own for models, as they are now';
comment on column store.alias.name is 'The alias, without the @ before it';
comment on column store.alias.model_id is 'Model that it names';

create table store.alias_event (
    name       varchar not null,
    step       integer not null,
    changed_at timestamptz not null,
    who        varchar not null,
    old_id     varchar,
    old_name   varchar,
    new_id     varchar,
    new_name   varchar,
    why        varchar,
    primary key (name, step)
);
comment on table store.alias_event is 'Every change of an alias; rows are added and never changed';
comment on column store.alias_event.name is 'The alias, without the @ before it';
comment on column store.alias_event.step is 'Number of the change of this alias, from 1';
comment on column store.alias_event.changed_at is 'When it was made';
comment on column store.alias_event.who is 'User who made it, as the system names them';
comment on column store.alias_event.old_id is 'Model that it named before, which may be gone; null where there was no such alias';
comment on column store.alias_event.old_name is 'What that model was called then';
comment on column store.alias_event.new_id is 'Model that it named from then on, which may be gone; null where the alias was removed';
comment on column store.alias_event.new_name is 'What that model was called then';
comment on column store.alias_event.why is 'Why, in the words of whoever made it; null where nothing was said';
