/* Ranks of the magnitudes of a row, and the chances that go by them. */
#pragma once
#include "draws.h"

#define DIGIT 2048 /* of 11 bits; three make a magnitude */

/* Memory for one row. Entries are sorted as key << 32 | columns - 1 - place: of equal magnitudes the first is the last. */
typedef struct {
    int64_t columns;
    uint64_t *sorted, *spare;
    uint32_t *bucket, *ends; /* of entries; of buckets, one for each part of the row, and where what is odd begins */
    const float *by_rank;    /* chances of ranks; to be set */
    float *stays;            /* chances of entries */
    void *memory;            /* to be freed */
    uint32_t counts[3][DIGIT];
} ranking;

/* Prepare to rank rows; 0: there is no memory. */
int open_ranking(ranking *r, int64_t columns);

/* Chances of ranks: from `least` in even steps to `least` + `more`, cut off at 0 and 1. */
void fill_chances(int64_t columns, float least, float more, float *by_rank);

/* Drop entries of a row by chance; those that stay are divided by it if `by_chance`, the others are 0 of their sign. */
void drop_row(ranking *r, stream *s, int by_chance, float *row);
