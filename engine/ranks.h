/* Ranks of the magnitudes of a row, and the chances that go by them. */
#pragma once
#include "draws.h"

#define DIGIT 2048   /* of 11 bits; three make a magnitude */
#define WAYS 2       /* parts of a row that are counted apart */
#define LOWEST 9     /* bucket; before it, 8 for zeros, whose ranks nobody needs as 0 stays of them, and one below all */
#define BUCKETS 1968 /* at most, of leading bits */

/* How buckets are made of leading bits of magnitudes: how many bits go, what is left of the lowest and the highest, and
   for how many more rows that is used; for less than 0, nothing is. */
typedef struct {
    int32_t shift, low, high, rows;
} leading;

/* Memory for one row. Entries are sorted as key << 32 | columns - 1 - place: of equal magnitudes the first is the last. */
typedef struct {
    int64_t columns;
    uint64_t *sorted, *spare;
    uint32_t *ranks, *bucket, *ends; /* of entries; of buckets, one for each half of the row */
    void *memory;                    /* to be freed */
    uint32_t counts[3][DIGIT];
    uint32_t counters[WAYS][BUCKETS], odd[BUCKETS]; /* odd: zero between rows */
} ranking;

/* How entries of rows are dropped, one row after the other: their chances to stay, from `least` for a row's smallest in
   even steps to `least` + `more`, cut off at 0 and 1. */
typedef struct {
    float least, more;
    int by_chance; /* what stays is divided by its chance */
    stream words;
    leading last; /* zero at first */
} dropping;

static inline uint64_t entry(const float *row, int64_t i, int64_t columns)
{
    return (uint64_t)(bits_of(row[i]) & 0x7fffffffu) << 32 | (uint32_t)(columns - 1 - i);
}

/* The ranks of a row's entries, where nearly all magnitudes have few leading bits; 0: these are others. Zeros get any. */
int rank_leading(ranking *r, leading *l, const float *row);

/* Prepare to rank rows; 0: there is no memory. */
int open_ranking(ranking *r, int64_t columns);

/* Drop entries of a row by chance; the others are as they were, or divided by it. What is dropped is 0 of its sign. */
void drop_row(ranking *r, dropping *d, float *row);
