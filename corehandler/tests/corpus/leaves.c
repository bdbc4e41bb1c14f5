/* A main that has nothing left to do once it has called another function. */
#include <stdlib.h>

volatile int sink;

__attribute__((noinline)) int deep(int round) {
    char room[512];
    for (int at = 0; at < 512; at++) room[at] = round + sink;
    int found = deep(round + 1);
    sink += room[round & 511];
    return found + room[3];
}

__attribute__((noinline)) int reads(int way) { return *(volatile int *)(long)way + sink; }

__attribute__((noinline)) int passes_on(int way) {
    sink = way;
    return reads(way + 6);
}

__attribute__((constructor)) void before(void) {
    if (getenv("EARLY")) abort();
}

int main(int count, char **arguments) {
    (void)count;
    switch (atoi(arguments[1])) {
        case 1: return deep(1);
        case 2: return reads(8);
        case 3: return passes_on(2);
    }
    return 0;
}
