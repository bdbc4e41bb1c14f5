package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

type Box struct{ m map[string]int }

//go:noinline
func (b Box) index(k int) int { v := []int{1, 2}; return v[k] + len(b.m) }

//go:noinline
func plain(k int) int { return Box{}.index(k) }

//go:noinline
func deferred(k int) int {
	defer func() {
		fmt.Println("cleaning")
		var m map[string]int
		m["x"] = k
	}()
	return Box{}.index(k)
}

//go:noinline
func indeferred(k int) {
	defer func() {
		Box{}.index(k)
	}()
	Box{}.index(k + 1)
}

//go:noinline
func once(k int) {
	defer func() { fmt.Println("x"); Box{}.index(k) }()
	fmt.Println("quiet")
}

//go:noinline
func rec(n int) int { var pad [100]int; pad[n%100] = n; return rec(n+1) + pad[(n+1)%100] }

//go:noinline
func unlock() { var mu sync.Mutex; mu.Unlock() }

//go:noinline
func writes() {
	m := map[int]int{}
	for i := 0; i < 4; i++ {
		go func() {
			for k := 0; ; k++ {
				m[k%10] = k
			}
		}()
	}
	time.Sleep(10 * time.Second)
}

//go:noinline
func asleep() { c := make(chan int); <-c }

//go:noinline
func asleep2() { var w sync.WaitGroup; w.Add(1); w.Wait() }

//go:noinline
func memory() { x := make([]byte, 1<<46); fmt.Println(len(x)) }

func main() {
	w, _ := strconv.Atoi(os.Args[1])
	switch w {
	case 1:
		fmt.Println(plain(5))
	case 2:
		fmt.Println(deferred(5))
	case 3:
		indeferred(5)
	case 4:
		once(5)
	case 5:
		fmt.Println(rec(0))
	case 6:
		unlock()
	case 7:
		writes()
	case 8:
		asleep()
	case 9:
		asleep2()
	case 10:
		memory()
	}
}
