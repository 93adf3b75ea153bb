-- Deltas: what training changed.

-- Statistics of a delta from its accumulators, defined once. Undefined is null, never NaN.
-- (greatest and least pass over null, so limits are spelled out.)
create or replace macro store.ratio(part, whole) as case when whole > 0 then part / whole end;
create or replace macro store.root(x) as case when x < 0 then 0 else sqrt(x) end;
create or replace macro store.clip(x) as case when x < -1 then -1.0 when x > 1 then 1.0 else x end;
create or replace macro store.relative_l2(sum_sq, base_sum_sq) as store.ratio(sqrt(sum_sq), sqrt(base_sum_sq));
create or replace macro store.cos_base(dot, sum_sq, base_sum_sq) as
    store.clip(store.ratio(dot, sqrt(sum_sq) * sqrt(base_sum_sq)));
create or replace macro store.cosine(dot, sum_sq, base_sum_sq) as
    store.clip(store.ratio(base_sum_sq + dot, sqrt(base_sum_sq) * store.root(base_sum_sq + 2 * dot + sum_sq)));
create or replace macro store.variance(n, s1, s2) as s2 / n - (s1 / n) * (s1 / n);
create or replace macro store.kurtosis(n, s1, s2, s3, s4) as
    case when n > 0 and store.variance(n, s1, s2) > 1e-6 * s2 / n and store.variance(n, s1, s2) ** 2 > 0 then
        greatest(1.0, (s4 / n - 4 * (s1 / n) * (s3 / n) + 6 * (s1 / n) ** 2 * (s2 / n) - 3 * (s1 / n) ** 4)
            / store.variance(n, s1, s2) ** 2) end;
create or replace macro store.bitdelta_error(n, sum_abs, sum_sq) as
    case when n * sum_sq > 0 then store.root(1 - sum_abs * sum_abs / (n * sum_sq)) end;

create or replace view deltas as
select d.child as child_id,
       d.base as base_id,
       c.name as child,
       b.name as base,
       d.tensor,
       d.status,
       d.layer,
       d.module,
       d.child_dtype,
       d.base_dtype,
       d.child_shape,
       d.base_shape,
       d.n as n_params,
       d.n_nonfinite,
       store.relative_l2(d.sum_sq, d.base_sum_sq) as relative_l2,
       sqrt(d.sum_sq) as l2,
       sqrt(store.ratio(d.sum_sq, d.n)) as rms,
       store.ratio(d.sum_abs, d.n) as mean_abs,
       d.max_abs,
       d.min_delta,
       d.max_delta,
       store.ratio(d.sum_delta, d.n) as mean_delta,
       store.ratio(d.n_within_0002, d.n) as within_0002,
       store.ratio(d.n_within_0005, d.n) as within_0005,
       store.ratio(d.n_within_001, d.n) as within_001,
       store.ratio(d.n_within_002, d.n) as within_002,
       store.ratio(d.n_within_005, d.n) as within_005,
       store.ratio(d.n_within_01, d.n) as within_01,
       store.ratio(d.n_within_03, d.n) as within_03,
       store.ratio(d.n_zero, d.n) as zero_share,
       case when d.n_positive + d.n_negative > 0 then (d.n_positive - d.n_negative) / (d.n_positive + d.n_negative) end as sign_balance,
       store.kurtosis(d.n, d.sum_delta, d.sum_sq, d.sum_cube, d.sum_fourth) as kurtosis,
       store.cos_base(d.base_dot, d.sum_sq, d.base_sum_sq) as cos_base,
       store.cosine(d.base_dot, d.sum_sq, d.base_sum_sq) as cosine,
       d.sum_sq as dare_variance,
       store.bitdelta_error(d.n, d.sum_abs, d.sum_sq) as bitdelta_error,
       d.abs_p01,
       d.abs_p10,
       d.abs_p25,
       d.abs_p50,
       d.abs_p75,
       d.abs_p90,
       d.abs_p99,
       d.top1_mass_l2,
       d.top20_mass_l2,
       d.top1_mass_l1,
       d.top20_mass_l1,
       s.sigma_max,
       s.stable_rank,
       s.effective_rank,
       s.participation_ratio,
       s.energy_rank,
       s.numerical_rank,
       s.top4_energy,
       s.intruder_count
from store.delta d
join store.named c on c.id = d.child
join store.named b on b.id = d.base
left join store.spectrum s on s.child = d.child and s.base = d.base and s.tensor = d.tensor;
comment on view deltas is 'One row per tensor of every measured (child, base) pair: the delta parameters in numbers';
comment on column deltas.child_id is 'Model that changed';
comment on column deltas.base_id is 'Model it is compared with';
comment on column deltas.child is 'Name of the child';
comment on column deltas.base is 'Name of the base';
comment on column deltas.tensor is 'Name of the tensor';
comment on column deltas.status is 'aligned, cropped (shared rows only), only_child, only_base, mismatched (other shape) or uncounted (codes, whole numbers)';
comment on column deltas.layer is 'Number of the layer, from 0; null outside of layers';
comment on column deltas.module is 'Part it plays: embedding, attention_q, mlp_down, norm, …';
comment on column deltas.child_dtype is 'Dtype in the child';
comment on column deltas.base_dtype is 'Dtype in the base';
comment on column deltas.child_shape is 'Shape in the child, JSON list';
comment on column deltas.base_shape is 'Shape in the base, JSON list';
comment on column deltas.n_params is 'Elements compared';
comment on column deltas.n_nonfinite is 'Elements left out: NaN or infinite';
comment on column deltas.relative_l2 is '‖δ‖/‖W0‖, a fraction; fine-tunes are small, strangers about 1.4';
comment on column deltas.l2 is '‖δ‖, unit of the weights';
comment on column deltas.rms is 'sqrt(mean δ²), unit of the weights';
comment on column deltas.mean_abs is 'mean |δ|, unit of the weights; the scale of BitDelta';
comment on column deltas.max_abs is 'largest |δ|, unit of the weights';
comment on column deltas.min_delta is 'smallest δ, unit of the weights';
comment on column deltas.max_delta is 'largest δ, unit of the weights';
comment on column deltas.mean_delta is 'mean δ, unit of the weights';
comment on column deltas.within_0002 is 'Share of elements with |δ| at most 0.0002, 0 to 1';
comment on column deltas.within_0005 is 'Share of elements with |δ| at most 0.0005, 0 to 1';
comment on column deltas.within_001 is 'Share of elements with |δ| at most 0.001, 0 to 1';
comment on column deltas.within_002 is 'Share of elements with |δ| at most 0.002, 0 to 1';
comment on column deltas.within_005 is 'Share of elements with |δ| at most 0.005, 0 to 1';
comment on column deltas.within_01 is 'Share of elements with |δ| at most 0.01, 0 to 1';
comment on column deltas.within_03 is 'Share of elements with |δ| at most 0.03, 0 to 1';
comment on column deltas.zero_share is 'Share of elements with δ exactly 0, 0 to 1';
comment on column deltas.sign_balance is '(positive − negative)/non-zero, −1 to 1';
comment on column deltas.kurtosis is 'Fourth central moment over squared variance; 3 for a Gaussian';
comment on column deltas.cos_base is 'Cosine between the base''s weights and δ, −1 to 1';
comment on column deltas.cosine is 'Cosine between the base''s and the child''s weights, −1 to 1; strangers about 0';
comment on column deltas.dare_variance is '‖δ‖²; DARE at drop rate p adds p/(1−p) times this in squared error';
comment on column deltas.bitdelta_error is 'Relative error of keeping signs and one magnitude, 0 to 1; Gaussian 0.603';
comment on column deltas.abs_p01 is '1 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column deltas.abs_p10 is '10 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column deltas.abs_p25 is '25 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column deltas.abs_p50 is '50 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column deltas.abs_p75 is '75 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column deltas.abs_p90 is '90 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column deltas.abs_p99 is '99 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column deltas.top1_mass_l2 is 'Share of Σδ² in the 1 % of elements with the largest |δ|, 0 to 1';
comment on column deltas.top20_mass_l2 is 'Share of Σδ² in the top 20 %, 0 to 1';
comment on column deltas.top1_mass_l1 is 'Share of Σ|δ| in the top 1 %, 0 to 1';
comment on column deltas.top20_mass_l1 is 'Share of Σ|δ| in the top 20 %, 0 to 1';
comment on column deltas.sigma_max is 'Largest singular value of δ, unit of the weights; null unless measured with --spectral';
comment on column deltas.stable_rank is '‖δ‖²/σ1², at least 1';
comment on column deltas.effective_rank is 'exp of the entropy of σ/Σσ';
comment on column deltas.participation_ratio is '(Σσ²)²/Σσ⁴, at least 1';
comment on column deltas.energy_rank is 'Fewest σ that leave a relative error of 0.05';
comment on column deltas.numerical_rank is 'Number of σ above 1e-5 of the largest';
comment on column deltas.top4_energy is 'Share of Σσ² in the four largest, 0 to 1';
comment on column deltas.intruder_count is 'Of the child''s first 10 left singular vectors, those unlike all of the base''s';

create or replace view layers as
select d.child as child_id,
       d.base as base_id,
       any_value(c.name) as child,
       any_value(b.name) as base,
       d.layer,
       d.module,
       count(*) as n_tensors,
       sum(d.n) as n_params,
       sum(d.n_nonfinite) as n_nonfinite,
       store.relative_l2(sum(d.sum_sq), sum(d.base_sum_sq)) as relative_l2,
       sqrt(sum(d.sum_sq)) as l2,
       sqrt(store.ratio(sum(d.sum_sq), sum(d.n))) as rms,
       store.ratio(sum(d.sum_abs), sum(d.n)) as mean_abs,
       max(d.max_abs) as max_abs,
       min(d.min_delta) as min_delta,
       max(d.max_delta) as max_delta,
       store.ratio(sum(d.sum_delta), sum(d.n)) as mean_delta,
       store.ratio(sum(d.n_within_0002), sum(d.n)) as within_0002,
       store.ratio(sum(d.n_within_0005), sum(d.n)) as within_0005,
       store.ratio(sum(d.n_within_001), sum(d.n)) as within_001,
       store.ratio(sum(d.n_within_002), sum(d.n)) as within_002,
       store.ratio(sum(d.n_within_005), sum(d.n)) as within_005,
       store.ratio(sum(d.n_within_01), sum(d.n)) as within_01,
       store.ratio(sum(d.n_within_03), sum(d.n)) as within_03,
       store.ratio(sum(d.n_zero), sum(d.n)) as zero_share,
       case when sum(d.n_positive) + sum(d.n_negative) > 0 then (sum(d.n_positive) - sum(d.n_negative)) / (sum(d.n_positive) + sum(d.n_negative)) end as sign_balance,
       store.kurtosis(sum(d.n), sum(d.sum_delta), sum(d.sum_sq), sum(d.sum_cube), sum(d.sum_fourth)) as kurtosis,
       store.cos_base(sum(d.base_dot), sum(d.sum_sq), sum(d.base_sum_sq)) as cos_base,
       store.cosine(sum(d.base_dot), sum(d.sum_sq), sum(d.base_sum_sq)) as cosine,
       sum(d.sum_sq) as dare_variance,
       store.bitdelta_error(sum(d.n), sum(d.sum_abs), sum(d.sum_sq)) as bitdelta_error
from store.delta d
join store.named c on c.id = d.child
join store.named b on b.id = d.base
where d.n is not null
group by d.child, d.base, d.layer, d.module;
comment on view layers is 'One row per layer and module of every measured pair';
comment on column layers.child_id is 'Model that changed';
comment on column layers.base_id is 'Model it is compared with';
comment on column layers.child is 'Name of the child';
comment on column layers.base is 'Name of the base';
comment on column layers.layer is 'Number of the layer, from 0; null outside of layers';
comment on column layers.module is 'Part: embedding, attention_q, mlp_down, norm, …';
comment on column layers.n_tensors is 'Tensors compared';
comment on column layers.n_params is 'Elements compared';
comment on column layers.n_nonfinite is 'Elements left out: NaN or infinite';
comment on column layers.relative_l2 is '‖δ‖/‖W0‖, a fraction; fine-tunes are small, strangers about 1.4';
comment on column layers.l2 is '‖δ‖, unit of the weights';
comment on column layers.rms is 'sqrt(mean δ²), unit of the weights';
comment on column layers.mean_abs is 'mean |δ|, unit of the weights; the scale of BitDelta';
comment on column layers.max_abs is 'largest |δ|, unit of the weights';
comment on column layers.min_delta is 'smallest δ, unit of the weights';
comment on column layers.max_delta is 'largest δ, unit of the weights';
comment on column layers.mean_delta is 'mean δ, unit of the weights';
comment on column layers.within_0002 is 'Share of elements with |δ| at most 0.0002, 0 to 1';
comment on column layers.within_0005 is 'Share of elements with |δ| at most 0.0005, 0 to 1';
comment on column layers.within_001 is 'Share of elements with |δ| at most 0.001, 0 to 1';
comment on column layers.within_002 is 'Share of elements with |δ| at most 0.002, 0 to 1';
comment on column layers.within_005 is 'Share of elements with |δ| at most 0.005, 0 to 1';
comment on column layers.within_01 is 'Share of elements with |δ| at most 0.01, 0 to 1';
comment on column layers.within_03 is 'Share of elements with |δ| at most 0.03, 0 to 1';
comment on column layers.zero_share is 'Share of elements with δ exactly 0, 0 to 1';
comment on column layers.sign_balance is '(positive − negative)/non-zero, −1 to 1';
comment on column layers.kurtosis is 'Fourth central moment over squared variance; 3 for a Gaussian';
comment on column layers.cos_base is 'Cosine between the base''s weights and δ, −1 to 1';
comment on column layers.cosine is 'Cosine between the base''s and the child''s weights, −1 to 1; strangers about 0';
comment on column layers.dare_variance is '‖δ‖²; DARE at drop rate p adds p/(1−p) times this in squared error';
comment on column layers.bitdelta_error is 'Relative error of keeping signs and one magnitude, 0 to 1; Gaussian 0.603';

create or replace view delta_summary as
select d.child as child_id,
       d.base as base_id,
       any_value(c.name) as child,
       any_value(b.name) as base,
       any_value(p.scope) as scope,
       any_value(p.n_aligned + p.n_cropped) as n_tensors,
       any_value(p.n_cropped) as n_cropped,
       any_value(p.n_only_child) as n_only_child,
       any_value(p.n_only_base) as n_only_base,
       any_value(p.n_mismatched) as n_mismatched,
       any_value(p.n_uncounted) as n_uncounted,
       sum(d.n) as n_params,
       sum(d.n_nonfinite) as n_nonfinite,
       store.relative_l2(sum(d.sum_sq), sum(d.base_sum_sq)) as relative_l2,
       sqrt(sum(d.sum_sq)) as l2,
       sqrt(store.ratio(sum(d.sum_sq), sum(d.n))) as rms,
       store.ratio(sum(d.sum_abs), sum(d.n)) as mean_abs,
       max(d.max_abs) as max_abs,
       min(d.min_delta) as min_delta,
       max(d.max_delta) as max_delta,
       store.ratio(sum(d.sum_delta), sum(d.n)) as mean_delta,
       store.ratio(sum(d.n_within_0002), sum(d.n)) as within_0002,
       store.ratio(sum(d.n_within_0005), sum(d.n)) as within_0005,
       store.ratio(sum(d.n_within_001), sum(d.n)) as within_001,
       store.ratio(sum(d.n_within_002), sum(d.n)) as within_002,
       store.ratio(sum(d.n_within_005), sum(d.n)) as within_005,
       store.ratio(sum(d.n_within_01), sum(d.n)) as within_01,
       store.ratio(sum(d.n_within_03), sum(d.n)) as within_03,
       store.ratio(sum(d.n_zero), sum(d.n)) as zero_share,
       case when sum(d.n_positive) + sum(d.n_negative) > 0 then (sum(d.n_positive) - sum(d.n_negative)) / (sum(d.n_positive) + sum(d.n_negative)) end as sign_balance,
       store.kurtosis(sum(d.n), sum(d.sum_delta), sum(d.sum_sq), sum(d.sum_cube), sum(d.sum_fourth)) as kurtosis,
       store.cos_base(sum(d.base_dot), sum(d.sum_sq), sum(d.base_sum_sq)) as cos_base,
       store.cosine(sum(d.base_dot), sum(d.sum_sq), sum(d.base_sum_sq)) as cosine,
       store.cosine(sum(d.base_dot) filter (json_array_length(d.base_shape) > 1),
                    sum(d.sum_sq) filter (json_array_length(d.base_shape) > 1),
                    sum(d.base_sum_sq) filter (json_array_length(d.base_shape) > 1)) as cosine_matrices,
       sum(d.sum_sq) as dare_variance,
       store.bitdelta_error(sum(d.n), sum(d.sum_abs), sum(d.sum_sq)) as bitdelta_error,
       any_value(p.abs_p01) as abs_p01,
       any_value(p.abs_p10) as abs_p10,
       any_value(p.abs_p25) as abs_p25,
       any_value(p.abs_p50) as abs_p50,
       any_value(p.abs_p75) as abs_p75,
       any_value(p.abs_p90) as abs_p90,
       any_value(p.abs_p99) as abs_p99,
       any_value(p.top1_mass_l2) as top1_mass_l2,
       any_value(p.top20_mass_l2) as top20_mass_l2,
       any_value(p.top1_mass_l1) as top1_mass_l1,
       any_value(p.top20_mass_l1) as top20_mass_l1,
       any_value(p.seconds) as seconds,
       any_value(p.measured_at) as measured_at
from store.delta d
join store.pair p on p.child = d.child and p.base = d.base
join store.named c on c.id = d.child
join store.named b on b.id = d.base
group by d.child, d.base;
comment on view delta_summary is 'One row per measured (child, base) pair';
comment on column delta_summary.child_id is 'Model that changed';
comment on column delta_summary.base_id is 'Model it is compared with';
comment on column delta_summary.child is 'Name of the child';
comment on column delta_summary.base is 'Name of the base';
comment on column delta_summary.scope is 'full: every element; sampled: some';
comment on column delta_summary.n_tensors is 'Tensors compared';
comment on column delta_summary.n_cropped is 'Tensors of which only shared rows were compared: the vocabulary grew or shrank';
comment on column delta_summary.n_only_child is 'Tensors the base lacks';
comment on column delta_summary.n_only_base is 'Tensors the child lacks';
comment on column delta_summary.n_mismatched is 'Tensors of another shape';
comment on column delta_summary.n_uncounted is 'Tensors whose dtype holds codes or whole numbers';
comment on column delta_summary.n_params is 'Elements compared';
comment on column delta_summary.n_nonfinite is 'Elements left out: NaN or infinite';
comment on column delta_summary.relative_l2 is '‖δ‖/‖W0‖, a fraction; fine-tunes are small, strangers about 1.4';
comment on column delta_summary.l2 is '‖δ‖, unit of the weights';
comment on column delta_summary.rms is 'sqrt(mean δ²), unit of the weights';
comment on column delta_summary.mean_abs is 'mean |δ|, unit of the weights; the scale of BitDelta';
comment on column delta_summary.max_abs is 'largest |δ|, unit of the weights';
comment on column delta_summary.min_delta is 'smallest δ, unit of the weights';
comment on column delta_summary.max_delta is 'largest δ, unit of the weights';
comment on column delta_summary.mean_delta is 'mean δ, unit of the weights';
comment on column delta_summary.within_0002 is 'Share of elements with |δ| at most 0.0002, 0 to 1';
comment on column delta_summary.within_0005 is 'Share of elements with |δ| at most 0.0005, 0 to 1';
comment on column delta_summary.within_001 is 'Share of elements with |δ| at most 0.001, 0 to 1';
comment on column delta_summary.within_002 is 'Share of elements with |δ| at most 0.002, 0 to 1';
comment on column delta_summary.within_005 is 'Share of elements with |δ| at most 0.005, 0 to 1';
comment on column delta_summary.within_01 is 'Share of elements with |δ| at most 0.01, 0 to 1';
comment on column delta_summary.within_03 is 'Share of elements with |δ| at most 0.03, 0 to 1';
comment on column delta_summary.zero_share is 'Share of elements with δ exactly 0, 0 to 1';
comment on column delta_summary.sign_balance is '(positive − negative)/non-zero, −1 to 1';
comment on column delta_summary.kurtosis is 'Fourth central moment over squared variance; 3 for a Gaussian';
comment on column delta_summary.cos_base is 'Cosine between the base''s weights and δ, −1 to 1';
comment on column delta_summary.cosine is 'Cosine between the base''s and the child''s weights, −1 to 1; strangers about 0';
comment on column delta_summary.cosine_matrices is 'The same of matrices alone, since norms are near 1 in every model; null without matrices';
comment on column delta_summary.dare_variance is '‖δ‖²; DARE at drop rate p adds p/(1−p) times this in squared error';
comment on column delta_summary.bitdelta_error is 'Relative error of keeping signs and one magnitude, 0 to 1; Gaussian 0.603';
comment on column delta_summary.abs_p01 is '1 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column delta_summary.abs_p10 is '10 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column delta_summary.abs_p25 is '25 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column delta_summary.abs_p50 is '50 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column delta_summary.abs_p75 is '75 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column delta_summary.abs_p90 is '90 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column delta_summary.abs_p99 is '99 % of all |δ| are at most this, zeros included; unit of the weights, ± 2.2 %';
comment on column delta_summary.top1_mass_l2 is 'Share of Σδ² in the 1 % of elements with the largest |δ|, 0 to 1';
comment on column delta_summary.top20_mass_l2 is 'Share of Σδ² in the top 20 %, 0 to 1';
comment on column delta_summary.top1_mass_l1 is 'Share of Σ|δ| in the top 1 %, 0 to 1';
comment on column delta_summary.top20_mass_l1 is 'Share of Σ|δ| in the top 20 %, 0 to 1';
comment on column delta_summary.seconds is 'Time the measurement took';
comment on column delta_summary.measured_at is 'When it was measured';
