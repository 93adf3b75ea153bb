/* The variance of every entry over models, to be counted and compared. */
#include "varied.h"

/* The variance of n entries of k models, less a base where there is one. Whose entries are not finite (the base is k),
   else -1; TOO_MANY or UNREADABLE. */
int32_t variance(const term *terms, int32_t k, const source *base, int64_t n, float *out)
{
    static __thread float parts[MOST][SUB];
    float some[SUB];
    tiles read = {.n_sources = k};
    int32_t whose = -1;
    if (k >= MOST) return TOO_MANY;
    for (int t = 0; t < k; t++) read.from[t] = &terms[t].from;
    if (base) read.from[read.n_sources++] = base;
    if (!open_tiles(&read, n)) return UNREADABLE;
    for (int64_t at = 0; at < n && whose == -1; at += SUB) {
        int m = n - at < SUB ? (int)(n - at) : SUB;
        whose = reach(&read, at, m, n) ? load_parts(&read, k, at, m, parts) : UNREADABLE;
        if (whose != -1) continue;
        variances(parts, k, (m + LANES - 1) / LANES * LANES, some);
        memcpy(out + at, some, sizeof(float) * (size_t)m);
    }
    free(read.scratch);
    return whose;
}
