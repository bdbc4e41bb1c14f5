package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
)

type Shop struct{ items map[string]int }
type Till struct{ total *int }

type Seller interface{ Sell(name string) int }

//go:noinline
func (s *Shop) Sell(name string) int { s.items[name]++; return s.items[name] }

//go:noinline
func (t *Till) Sell(name string) int { *t.total += len(name); return *t.total }

//go:noinline
func (t Till) Count(n int) int { return *t.total + n }

//go:noinline
func sell(s Seller) int { return s.Sell("x") + 1 }

//go:noinline
func index(v []int, at int) int { return v[at] }

//go:noinline
func null(p *int) int { return *p }

//go:noinline
func Map[T any](v []T, f func(T) int) int {
	sum := 0
	for _, x := range v {
		sum += f(x)
	}
	return sum
}

//go:noinline
func closures(way int) int {
	first := func(p *int) int { return *p + 1 }
	second := func(p *int) int { return *p + 2 }
	if way == 7 {
		return first(nil) + 3
	}
	return second(nil) + 4
}

func main() {
	way, _ := strconv.Atoi(os.Args[1])
	switch way {
	case 1:
		fmt.Println(sell(&Shop{}))
	case 2:
		fmt.Println(sell(&Till{}))
	case 3:
		fmt.Println(Till{}.Count(3))
	case 4:
		fmt.Println(index([]int{1, 2}, len(os.Args)+3))
	case 5:
		fmt.Println(null(nil))
	case 6:
		var w sync.WaitGroup
		w.Add(1)
		go func() { defer w.Done(); fmt.Println(null(nil)) }()
		w.Wait()
	case 7, 8:
		fmt.Println(closures(way))
	case 9:
		fmt.Println(Map([]int{1}, func(i int) int { return null(nil) }))
	case 10:
		fmt.Println(Map([]string{"a"}, func(s string) int { return null(nil) }))
	case 11:
		v := []int{3, 1, 2}
		sort.Slice(v, func(i, j int) bool { return null(nil) > 0 })
	case 12:
		panic("said so")
	case 13:
		var m map[string]int
		m["a"] = 1
	}
}
