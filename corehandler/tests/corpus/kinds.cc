// Faults whose names are seen in one file only, and methods that leave by a jump.
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

int main(int, char **arguments) {
    switch (atoi(arguments[1])) {
        case 1: return work(1);
        case 2: return other_work(1);
        case 3: return draws() + 1;
        case 4: return closes() + 1;
    }
    return 2;
}
