/* Sums over entries: dot products of models, and of their columns. */
#include "kernels.h"

/* Dot products of k models (and the base, number k, when it is there), of each block: out[block][pair]. */
int32_t products(const term *terms, int32_t k, const void *base, int32_t base_dtype, int64_t n, int64_t block,
                 const int32_t *pairs, int32_t n_pairs, double *out)
{
    enum { PAIRS = MOST * (MOST + 1) / 2 }; /* each two, and each with itself */
    static __thread float parts[MOST][SUB];
    static __thread lanes sums[PAIRS];
    if (k >= MOST || n_pairs > PAIRS) return TOO_MANY;
    for (int64_t start = 0; start < n; start += block) {
        int64_t end = start + block < n ? start + block : n;
        memset(sums, 0, sizeof(lanes) * (size_t)n_pairs);
        for (int64_t at = start; at < end; at += SUB) {
            int m = end - at < SUB ? (int)(end - at) : SUB;
            if (base && load(behind(base, base_dtype, at), base_dtype, m, parts[k])) return k;
            for (int t = 0; t < k; t++) {
                const source *s = &terms[t].from;
                if (load_less(behind(s->data, s->dtype, at), s->dtype, m, base ? parts[k] : NULL, parts[t])) return t;
            }
            int whole = m;
            for (int t = 0; t < k; t++) whole = filled(parts[t], m);
            if (base) filled(parts[k], m);
            for (int p = 0; p < n_pairs; p++)
                add_products(parts[pairs[2 * p]], parts[pairs[2 * p + 1]], whole, &sums[p]);
        }
        for (int p = 0; p < n_pairs; p++) *out++ = folded(&sums[p]);
    }
    return -1;
}

/* Dot products of columns, row by row: out[pair][column]. */
int32_t column_products(const term *terms, int32_t k, const void *base, int32_t base_dtype, int64_t rows,
                        int64_t columns, const int32_t *pairs, int32_t n_pairs, double *out)
{
    static __thread float parts[MOST][SUB];
    if (k >= MOST) return TOO_MANY;
    memset(out, 0, sizeof(double) * (size_t)(n_pairs * columns));
    for (int64_t left = 0; left < columns; left += SUB) {
        int m = columns - left < SUB ? (int)(columns - left) : SUB;
        for (int64_t row = 0; row < rows; row++) {
            int64_t at = row * columns + left;
            if (base && load(behind(base, base_dtype, at), base_dtype, m, parts[k])) return k;
            for (int t = 0; t < k; t++) {
                const source *s = &terms[t].from;
                if (load_less(behind(s->data, s->dtype, at), s->dtype, m, base ? parts[k] : NULL, parts[t])) return t;
            }
            for (int p = 0; p < n_pairs; p++) {
                const float *a = parts[pairs[2 * p]], *b = parts[pairs[2 * p + 1]];
                double *total = out + p * columns + left;
                for (int i = 0; i < m; i++) total[i] += (double)a[i] * (double)b[i];
            }
        }
    }
    return -1;
}
