/* How much entries vary over models, and which of them count by it. */
#pragma once
#include "tiles.h"

/* Entries that count: their variance is above a threshold that is at least 0, or equal to it, and not 0, before
   `ties_end`. */
typedef struct {
    int64_t ties_end;
    float threshold;
} varied;

/* Bring n entries of k models here, less the base's (number k, where it is), which is left behind them; filled up to a
   multiple of LANES. Whose entries are not finite, else -1. */
static inline int32_t load_parts(const tiles *t, int k, int64_t at, int n, float (*parts)[SUB])
{
    int has_base = t->n_sources > k;
    if (has_base && load(entries(t, k, at), t->from[k]->dtype, n, parts[k])) return k;
    for (int i = 0; i < k; i++)
        if (load_less(entries(t, i, at), t->from[i]->dtype, n, has_base ? parts[k] : NULL, parts[i])) return i;
    for (int i = 0; i < t->n_sources; i++) filled(parts[i], n);
    return -1;
}

/* Σ (k x - Σ x)² / k³ over the k models, of n entries, a multiple of LANES: in float64, in the models' order. Products
   by k are exact, so that there fused steps are the same; and so are differences of models that are alike, 0. */
static inline void variances(float (*parts)[SUB], int k, int n, float *out)
{
    enum { QUADS = LANES / 4 };
    double many = k, share = 1.0 / (many * many * many);
    d4 times = {many, many, many, many};
    for (int i = 0; i < n; i += LANES) {
        d4 total[QUADS] = {{0}}, squares[QUADS] = {{0}};
        for (int t = 0; t < k; t++)
            for (int j = 0; j < QUADS; j++) total[j] += wide(parts[t] + i + 4 * j);
        for (int t = 0; t < k; t++)
            for (int j = 0; j < QUADS; j++) {
                d4 gap = added(wide(parts[t] + i + 4 * j), times, -total[j]);
                squares[j] += gap * gap;
            }
        for (int j = 0; j < QUADS; j++) {
            f4 narrow = __builtin_convertvector(squares[j] * share, f4);
            memcpy(out + i + 4 * j, &narrow, sizeof narrow);
        }
    }
}

/* Zero the entries of k models that do not count; n of them, filled up. */
static inline void keep_varied(const varied *v, int k, int64_t at, int n, float (*parts)[SUB])
{
    float by[SUB];
    i8 kept;
    int whole = (n + LANES - 1) / LANES * LANES;
    variances(parts, k, whole, by);
    largest(v->threshold, v->ties_end, at, n, by, by);
    for (int i = 0; i < whole; i += 8) {
        kept = eight(by + i) != 0;
        for (int t = 0; t < k; t++) {
            f8 x = where(kept, eight(parts[t] + i));
            memcpy(parts[t] + i, &x, sizeof x);
        }
    }
}
