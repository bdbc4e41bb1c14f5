// Faults in functions without names of their own, which g++ copies into the library's functions that call them.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#define NOINLINE __attribute__((noinline))

volatile int limit = 1;

NOINLINE static int sorts(int way) {
    std::vector<int> numbers;
    for (int i = 0; i < 100; i++) numbers.push_back((i * 7919) % 101);
    if (way == 1) std::sort(numbers.begin(), numbers.end(), [](int a, int b) { if (limit) abort(); return a < b; });
    else std::sort(numbers.begin(), numbers.end(), [](int a, int b) { if (limit) abort(); return a > b; });
    return numbers[3] + 1;
}

NOINLINE static int calls(int way) {
    std::function<void(int)> first = [](int a) { if (a) abort(); limit = limit + 1; };
    std::function<void(int)> second = [](int a) { if (a) abort(); limit = limit + 2; };
    (way == 3 ? first : second)(limit);
    return limit + 1;
}

struct Up {
    bool operator()(int a, int b) const { if (limit) abort(); return a < b; }
};

struct Down {
    bool operator()(int a, int b) const { if (limit) abort(); return a > b; }
};

NOINLINE static int compares(int way) {
    std::vector<int> numbers;
    for (int i = 0; i < 100; i++) numbers.push_back((i * 7919) % 101);
    if (way == 5) std::sort(numbers.begin(), numbers.end(), Up());
    else std::sort(numbers.begin(), numbers.end(), Down());
    return numbers[3] + 1;
}

int main(int argc, char **argv) {
    int way = argc > 1 ? atoi(argv[1]) : 0;
    switch (way) {
        case 1: case 2: return sorts(way) + 1;
        case 3: case 4: return calls(way) + 1;
        case 5: case 6: return compares(way) + 1;
        case 7: std::thread([] { if (limit) abort(); limit = 2; }).join(); return limit;
        case 8: std::thread([] { if (limit) abort(); limit = 3; }).join(); return limit;
    }
    return 0;
}
