/* Sums over entries: dot products of models, and of their columns. */
#include "varied.h"

/* Dot products of k models (and the base, number k, when it is there), of each block: out[block][pair]; of the entries
   that count, where not all do. Whose entries are not finite, else -1; TOO_MANY or UNREADABLE. */
int32_t products(const term *terms, int32_t k, const source *base, const varied *among, int64_t n, int64_t block,
                 const int32_t *pairs, int32_t n_pairs, double *out)
{
    enum { PAIRS = MOST * (MOST + 1) / 2 }; /* each two, and each with itself */
    static __thread float parts[MOST][SUB];
    static __thread lanes sums[PAIRS];
    tiles read = {.n_sources = k};
    int32_t whose = -1;
    if (k >= MOST || n_pairs > PAIRS) return TOO_MANY;
    for (int t = 0; t < k; t++) read.from[t] = &terms[t].from;
    if (base) read.from[read.n_sources++] = base;
    if (!open_tiles(&read, n)) return UNREADABLE;
    for (int64_t start = 0; start < n && whose == -1; start += block) {
        int64_t end = start + block < n ? start + block : n;
        memset(sums, 0, sizeof(lanes) * (size_t)n_pairs);
        for (int64_t at = start; at < end && whose == -1; at += SUB) {
            int m = end - at < SUB ? (int)(end - at) : SUB, whole = (m + LANES - 1) / LANES * LANES;
            whose = reach(&read, at, m, n) ? load_parts(&read, k, at, m, parts) : UNREADABLE;
            if (among && whose == -1) keep_varied(among, k, at, m, parts);
            for (int p = 0; p < n_pairs && whose == -1; p++) {
                int one = pairs[2 * p], other = pairs[2 * p + 1];
                if (one == other)
                    add_squares(parts[one], whole, &sums[p]);
                else
                    add_products(parts[one], parts[other], whole, &sums[p]);
            }
        }
        for (int p = 0; p < n_pairs; p++) *out++ = folded(&sums[p]);
    }
    free(read.scratch);
    return whose;
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
