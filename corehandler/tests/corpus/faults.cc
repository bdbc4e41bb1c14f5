// Ways to crash, in C++. `faults N` crashes in the N-th way.
#include <cstdlib>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define FAR __attribute__((noinline))

volatile int sink;

namespace x_shop {

struct Item { int price; std::string name; };

FAR int x_throws(int value) { sink = value; if (value) throw std::runtime_error("no such item"); return sink; }
FAR int x_uncaught() { int r = x_throws(1); return sink = r; }

FAR int x_at(const std::vector<Item> &items, size_t at) { sink = items.at(at).price; return sink; }
FAR int x_out_of_range() { std::vector<Item> items(3); int r = x_at(items, 7); return sink = r; }

struct Shape {
    Shape() { x_draw_all(); }
    virtual ~Shape() = default;
    virtual int x_draw() = 0;
    FAR void x_draw_all();
};
FAR void x_render(Shape *shape) { sink = shape->x_draw(); }
void Shape::x_draw_all() { x_render(this); sink = 1; }
struct Circle : Shape { int x_draw() override { return 2; } };
FAR int x_pure_virtual() { Circle circle; return sink = circle.x_draw(); }

struct Square {
    Square() { sink = x_measure(this); }
    virtual int x_side() = 0;
    FAR static int x_measure(Square *square);
};
int Square::x_measure(Square *square) { int r = square->x_side(); return sink = r + 1; }
struct Small : Square { int x_side() override { return 3; } };
FAR int x_pure_virtual_known() { Small small; return sink = small.x_side(); }

template <class T> FAR int x_generic(T *value) { sink = static_cast<int>(*const_cast<volatile T *>(value)); return sink; }
FAR int x_template(long *value) { int r = x_generic<long>(value); return sink = r; }

struct Walker {
    int *at;
    FAR int operator()(int step) const { sink = at[step]; return sink; }
    FAR int x_method(int step) const { int r = (*this)(step); return sink = r; }
};
FAR int x_methods() { Walker walker{nullptr}; int r = walker.x_method(0); return sink = r; }

FAR int x_empty_function() { std::function<int(int)> nothing; int r = nothing(3); return sink = r; }

FAR int x_in_lambda(int *pointer) {
    auto x_lambda = [pointer](int more) __attribute__((noinline)) { sink = *pointer + more; return sink; };
    int r = x_lambda(3);
    return sink = r;
}

namespace {
FAR int x_hidden(volatile int *pointer) { sink = *pointer; return sink; }
}
FAR int x_anonymous(int *pointer) { int r = x_hidden(pointer); return sink = r; }

FAR void x_thread_body(int value) { sink = value; x_throws(value); sink = 1; }
FAR int x_in_thread() { std::thread thread(x_thread_body, 5); thread.join(); return sink; }

FAR int x_null_string(const char *text) { std::string copy(text); sink = static_cast<int>(copy.size()); return sink; }

struct Guard { FAR ~Guard() noexcept(false) { sink = 1; throw std::logic_error("from a destructor"); } };
FAR int x_destructor() {
    try { Guard guard; x_throws(1); } catch (const std::exception &) { sink = 3; }
    return sink;
}

} // namespace x_shop

int main(int count, char **arguments) {
    using namespace x_shop;
    int way = count > 1 ? std::atoi(arguments[1]) : 0;
    void *null = reinterpret_cast<void *>(static_cast<long>(count > 50));
    switch (way) {
    case 1: sink = x_uncaught(); break;
    case 2: sink = x_out_of_range(); break;
    case 3: sink = x_pure_virtual(); break;
    case 4: sink = x_template(static_cast<long *>(null)); break;
    case 5: sink = x_methods(); break;
    case 6: sink = x_empty_function(); break;
    case 7: sink = x_in_lambda(static_cast<int *>(null)); break;
    case 8: sink = x_anonymous(static_cast<int *>(null)); break;
    case 9: sink = x_in_thread(); break;
    case 10: sink = x_null_string(static_cast<char *>(null)); break;
    case 12: sink = x_pure_virtual_known(); break;
    case 11: sink = x_destructor(); break;
    }
    return sink & 1;
}
