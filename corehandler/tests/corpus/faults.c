/* Ways to crash, in C. `faults N` crashes in the N-th way; every function of the corpus begins with x_. */
#define _GNU_SOURCE
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FAR __attribute__((noinline))

volatile int sink;
struct node { struct node *next; int value; };

FAR int x_walk(struct node *n) {
    int sum = 0;
    while (n->value != 7) { sum += n->value; n = n->next; }
    return sink = sum;
}
FAR int x_null_read(void) { struct node one = { 0, 1 }; sink = x_walk(&one); return sink; }

FAR int x_measure(const char *text) { size_t n = strlen(text); sink = (int)n; return sink + 1; }
FAR int x_bad_string(const char *text) { int r = x_measure(text) + 1; return sink = r; }

FAR int x_bad_copy(char *to, size_t n) { static char from[4096] = { 1, 2, 3 }; memcpy(to, from, n); sink = to[1]; return sink; }

FAR void x_give_up(void) { sink++; abort(); }
FAR int x_abort(void) { x_give_up(); return sink; }

FAR int x_check(int value) { sink = value; assert(value == 3); return sink; }
FAR int x_check_other(int value) { sink = value; if (value < 100) assert(value != sink); assert(value == 4); return sink; }

FAR int x_compare(const void *a, const void *b) { sink++; return *(volatile int *)0 + *(const int *)a - *(const int *)b; }
FAR int x_callback(void) { int v[5] = { 5, 4, 3, 2, 1 }; qsort(v, 5, sizeof *v, x_compare); return sink = v[0]; }

FAR int x_even(int n);
FAR int x_odd(int n) { char room[96]; memset(room, n, sizeof room); sink = room[n & 63]; int r = x_even(n + 1) * 3; return r + (sink = room[5]); }
FAR int x_even(int n) { char room[40]; memset(room, n, sizeof room); sink = room[n & 31]; int r = x_odd(n + 3) + 1; return r ^ (sink = room[3]); }
FAR int x_recursion(void) { sink = x_even(1); return sink; }

void (*volatile nowhere)(void);
FAR int x_null_call(void) { nowhere(); return sink = 1; }
FAR int x_wild_call(void) { nowhere = (void (*)(void))0x123456789000; nowhere(); return sink = 2; }

static void x_on_signal(int number) { (void)number; abort(); }
FAR int x_in_handler(void) { struct node one = { 0, 1 }; signal(SIGSEGV, x_on_signal); return sink = x_walk(&one); }

FAR int x_divide(int a, int b) { sink = a / b; return sink; }
FAR int x_arithmetic(int zero) { int r = x_divide(3, zero); return sink = r + 1; }

static inline int x_copied(int *p) { return *p + 1; }
static inline int x_also_copied(int *p) { int r = x_copied(p) * 2; sink = r; return r; }
FAR int x_inlined(int *p) { int r = x_also_copied(p) + 5; return sink = r; }

FAR int x_jumped_to(int *p) { sink = *p; return sink * 3; }
FAR int x_jumps(int *p) { sink = 9; return x_jumped_to(p); }
FAR int x_tail_call(int *p) { int r = x_jumps(p); return sink = r + 1; }

FAR int x_heap(void) { char *volatile p = malloc(64); sink = p[0]; free(p); free(p); return sink; }

FAR int x_deep(struct node *n, int depth) { int r = depth > 0 ? x_deep(n, depth - 1) + 1 : x_walk(n); return sink = r; }
FAR int x_some_depth(int depth) { struct node one = { 0, 1 }; int r = x_deep(&one, depth); return sink = r; }

FAR void *x_thread(void *p) { sink = *(int *)p; return p; }
FAR int x_in_thread(void) { pthread_t t; pthread_create(&t, 0, x_thread, 0); pthread_join(t, 0); return sink; }

FAR int x_raise(void) { raise(SIGILL); return sink = 4; }
FAR int x_smash(volatile char *from, int n) { char room[16]; for (int i = 0; i < n; i++) room[i] = from[i & 7]; return sink = room[3]; }

FAR int x_clock(time_t *at) { int r = (int)time(at); return sink = r + 1; }

int main(int count, char **arguments) {
    int way = count > 1 ? atoi(arguments[1]) : 0, zero = count > 50, depth = count > 2 ? atoi(arguments[2]) : 3;
    void *null = (void *)(long)zero;
    switch (way) {
    case 1: sink = x_null_read(); break;
    case 2: sink = x_bad_string(null); break;
    case 3: sink = x_bad_copy(null, 3000 + zero); break;
    case 4: sink = x_abort(); break;
    case 5: sink = x_check(way); break;
    case 6: sink = x_check_other(way); break;
    case 7: sink = x_callback(); break;
    case 8: sink = x_recursion(); break;
    case 9: sink = x_null_call(); break;
    case 10: sink = x_wild_call(); break;
    case 11: sink = x_in_handler(); break;
    case 12: sink = x_arithmetic(zero); break;
    case 13: sink = x_inlined(null); break;
    case 14: sink = x_tail_call(null); break;
    case 15: sink = x_heap(); break;
    case 16: sink = x_some_depth(depth); break;
    case 17: sink = x_in_thread(); break;
    case 18: sink = x_raise(); break;
    case 20: sink = x_clock((time_t *)8 + zero); break;
    case 19: sink = x_check_other(way + 100); break;
    }
    return sink & 1;
}
