// Faults whose names are seen in one file only, methods that leave by a jump, and functions of one name.
#include <cstdlib>
#include <thread>

#define NOINLINE __attribute__((noinline))

static int work(int way) {
    struct Local {
        int way;
        void run() {
            if (way) abort();
        }
    };
    std::thread([way] { Local{way}.run(); }).join();
    return 0;
}

static int other_work(int way) {
    struct Local {
        int way;
        void run() {
            if (way) abort();
        }
    };
    std::thread([way] { Local{way}.run(); }).join();
    return 0;
}

struct Shape {
    Shape() { begin(); }
    virtual ~Shape() {}
    NOINLINE void begin() { area(); }
    virtual int area() = 0;
};

struct Square : Shape {
    int area() override { return 1; }
};

struct Shop {
    virtual ~Shop() { close(); }
    NOINLINE void close() { tell(); }
    virtual void tell() = 0;
};

struct Stall : Shop {
    void tell() override {}
};

NOINLINE static int draws() {
    Square square;
    return square.area();
}

NOINLINE static int closes() {
    Stall stall;
    return 0;
}

volatile int sink;
int *volatile nowhere;

struct Till {
    int count;
    NOINLINE Till(int items) { *nowhere = items; sink++; }
    NOINLINE Till(double price) { *nowhere = (int)price; sink--; }
    NOINLINE void add(int items) { *nowhere = items; sink++; }
    NOINLINE void add(double price) { *nowhere = (int)price; sink--; }
    NOINLINE void first() { *nowhere = 1; sink++; }
    NOINLINE void first() const { *nowhere = 2; sink--; }
};

template <class T> struct List {
    NOINLINE void push(T value) { sink += 7; *nowhere = (int)value; }
};

template <class T> NOINLINE void counts(T value) {
    sink += sizeof(T);
    *nowhere = (int)value;
    sink--;
}

template <int N> NOINLINE void repeats() {
    sink += N;
    *nowhere = N;
    sink--;
}

NOINLINE static void hidden(int value) { sink += 2; *nowhere = value; sink++; }
NOINLINE static void hidden(double value) { sink += 3; *nowhere = (int)value; sink--; }
NOINLINE static void only(int value) { sink += 4; *nowhere = value; sink--; }

NOINLINE static int lambdas(int way) {
    auto one = [](int value) __attribute__((noinline)) { sink += 5; *nowhere = value; return sink; };
    auto other = [](int value) __attribute__((noinline)) { sink += 6; *nowhere = value; return sink; };
    return (way ? one(way) : other(way)) + 1;
}

int main(int, char **arguments) {
    switch (atoi(arguments[1])) {
        case 1: return work(1);
        case 2: return other_work(1);
        case 3: return draws() + 1;
        case 4: return closes() + 1;
        case 5: Till(1); break;
        case 6: Till(1.0); break;
        case 7: ((Till *)&sink)->add(1); break;
        case 8: ((Till *)&sink)->add(1.0); break;
        case 9: ((Till *)&sink)->first(); break;
        case 10: ((const Till *)&sink)->first(); break;
        case 11: List<int>().push(1); break;
        case 12: List<double>().push(1); break;
        case 13: counts(1); break;
        case 14: counts(1.0); break;
        case 15: counts((short)1); break;
        case 16: repeats<3>(); break;
        case 17: repeats<4>(); break;
        case 18: hidden(sink); break;
        case 19: hidden((double)sink); break;
        case 20: return lambdas(1) + 1;
        case 21: return lambdas(0) + 1;
        case 22: only(sink); break;
    }
    return 2;
}
