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
