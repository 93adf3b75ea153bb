-- Sketches: sampled weights of models, from which lineage is inferred without reading them again.

create table store.sketch (
    model_id   varchar not null,
    spec       varchar not null,
    dtype      varchar not null,
    patches    varchar not null,
    n_scalars  bigint not null,
    scalars    blob not null,
    invariants varchar not null,
    read_bytes bigint not null,
    taken_at   timestamptz not null,
    primary key (model_id, spec)
);
comment on table store.sketch is 'Sampled weights of models: the same entries of every model of one shape';
comment on column store.sketch.model_id is 'Model they are of';
comment on column store.sketch.spec is 'Rules by which entries were chosen, and about how many; only sketches of one spec are compared';
comment on column store.sketch.dtype is 'Dtype of most of the bytes they were read from, as safetensors spells it';
comment on column store.sketch.patches is 'Rectangles of entries as a JSON list: tensor, rows and columns of it, first row, rows, first column, columns, whether it is a vector';
comment on column store.sketch.n_scalars is 'Number of entries';
comment on column store.sketch.scalars is 'Their values, float32, little-endian, patch by patch, row by row';
comment on column store.sketch.invariants is 'Inner products of slices of the matrices at the network''s edges, as JSON';
comment on column store.sketch.read_bytes is 'Bytes that were read for them';
comment on column store.sketch.taken_at is 'When they were read';
