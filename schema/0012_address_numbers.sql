-- Addresses say the numbers of their models, too: of hundreds of thousands of relatives the most downloaded are found by
-- those, and not by texts of 64 characters.

alter table store.address add column model_number integer;
comment on column store.address.model_number is 'store.model.number of its model; null where there is no such model';
update store.address set model_number = m.number from store.model m where m.id = address.model_id;
