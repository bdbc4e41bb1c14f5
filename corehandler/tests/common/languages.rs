//! What the corpus holds: the faults of each language, and the environments that they are built for.

use super::{Environment, built};
use atlas_corehandler::space::Search;
use std::path::Path;

/// A source of the corpus.
pub(crate) struct Language {
    pub(crate) name: &'static str,
    /// Its file.
    pub(crate) source: &'static str,
    /// What it can be told to do, by number, and what the tables call that.
    pub(crate) faults: &'static [(usize, &'static str)],
    pub(crate) environments: &'static [Environment],
}

pub(crate) const C: Language = Language {
    name: "C",
    source: "faults.c",
    environments: C_BUILDS,
    faults: &[
        (1, "null read"),
        (2, "bad string to strlen"),
        (3, "bad target of memcpy"),
        (4, "abort"),
        (5, "assertion"),
        (6, "assertion, first of two"),
        (19, "assertion, second of two"),
        (7, "callback of qsort"),
        (8, "mutual recursion without end"),
        (9, "call through null"),
        (10, "call to nowhere"),
        (11, "abort in a signal handler"),
        (12, "division by zero"),
        (13, "in an inlined function"),
        (14, "after a tail call"),
        (15, "double free"),
        (16, "deep in a recursion"),
        (17, "in a thread"),
        (18, "raise"),
        (20, "time to nowhere"),
    ],
};

pub(crate) const CXX: Language = Language {
    name: "C++",
    source: "faults.cc",
    environments: CXX_BUILDS,
    faults: &[
        (1, "uncaught exception"),
        (2, "vector::at"),
        (3, "pure virtual call"),
        (4, "in a template"),
        (5, "in a method"),
        (6, "empty std::function"),
        (7, "in a lambda"),
        (8, "in an anonymous namespace"),
        (9, "uncaught in a thread"),
        (10, "string from null"),
        (11, "throw in a destructor"),
        (12, "pure virtual call, known"),
    ],
};

pub(crate) const RUST: Language = Language {
    name: "Rust",
    source: "faults.rs",
    environments: RUST_BUILDS,
    faults: &[
        (1, "panic"),
        (2, "index out of bounds"),
        (3, "unwrap of None"),
        (4, "expect of Err"),
        (5, "slice within a character"),
        (6, "missing key"),
        (7, "borrowed twice"),
        (8, "null read"),
        (9, "recursion without end"),
        (10, "in a closure"),
        (11, "division by zero"),
        (12, "panic in a thread"),
        (13, "panic in drop"),
        (14, "abort in a callback"),
        (15, "in a thread's function"),
        (16, "in a boxed closure"),
    ],
};

/// Where what was built in `dir` has its debug information.
pub(crate) fn search(dir: &Path) -> Search {
    Search { debug_dirs: vec![dir.join("debug")], ..Search::new("/") }
}

const SPLIT: &str =
    "objcopy --only-keep-debug faults faults.debug; strip faults; objcopy --add-gnu-debuglink=faults.debug faults";
const BY_BUILD_ID: &str = "id=$(readelf -n faults | sed -n 's/.*Build ID: //p'); d=debug/.build-id/$(echo $id | cut -c1-2); \
    mkdir -p $d; objcopy --only-keep-debug faults $d/$(echo $id | cut -c3-).debug; strip faults";
const MINI: &str = "nm -D faults --format=posix --defined-only | awk '{print $1}' | sort > dynamic; \
    nm faults --format=posix --defined-only | awk '$2 ~ /[tTwW]/ {print $1}' | sort > all; comm -13 dynamic all > kept; \
    objcopy --only-keep-debug faults d; objcopy -S --remove-section .gdb_index --remove-section .comment --keep-symbols=kept d mini; \
    strip faults; xz -k mini; objcopy --add-section .gnu_debugdata=mini.xz faults";

const C_BUILDS: &[Environment] = &[
    built("gcc -O0", "gcc -O0 -g -pthread -w"),
    built("gcc -O1", "gcc -O1 -g -pthread -w"),
    built("gcc -O2", "gcc -O2 -g -pthread -w"),
    built("gcc -O3", "gcc -O3 -g -pthread -w"),
    built("gcc -Os", "gcc -Os -g -fno-builtin -pthread -w"),
    built("no PIE", "gcc -O2 -g -no-pie -pthread -w"),
    built("static", "gcc -O2 -g -static -pthread -w"),
    built("static PIE", "gcc -O1 -g -static-pie -pthread -w"),
    built("fortified", "gcc -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fcf-protection -pthread -w"),
    built("now, no PLT", "gcc -O2 -g -fno-plt -Wl,-z,now -pthread -w"),
    built("clang -O2", "clang -O2 -g -pthread -w"),
    built(
        "no tables -O0",
        "gcc -O0 -fomit-frame-pointer -fno-asynchronous-unwind-tables -fno-unwind-tables -pthread -w",
    ),
    built("no tables -O2", "gcc -O2 -fno-asynchronous-unwind-tables -fno-unwind-tables -no-pie -pthread -w"),
    built("no tables, clang", "clang -Os -fno-asynchronous-unwind-tables -fno-unwind-tables -static -pthread -w"),
    built("no build id", "gcc -O1 -g -Wl,--build-id=none -pthread -w"),
    Environment { after: "strip --strip-debug faults", ..built("symbols only", "gcc -O2 -g -pthread -w") },
    Environment { after: SPLIT, ..built("debug link", "gcc -O2 -g -pthread -w") },
    Environment { after: BY_BUILD_ID, ..built("debug by id", "gcc -O2 -g -pthread -w") },
    Environment { after: MINI, ..built("mini debug info", "gcc -O2 -g -pthread -w") },
    Environment {
        variable: "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-ERMS,-AVX512VL,-AVX512BW",
        ..built("older CPU", "gcc -O2 -g -pthread -w")
    },
];

const CXX_BUILDS: &[Environment] = &[
    built("g++ -O0", "g++ -O0 -g -pthread -w"),
    built("g++ -O1", "g++ -O1 -g -pthread -w"),
    built("g++ -O2", "g++ -O2 -g -pthread -w"),
    built("g++ -O3", "g++ -O3 -g -pthread -w"),
    built("static", "g++ -O2 -g -static -Wl,-u,__cxa_pure_virtual -pthread -w"),
    built("static, bare", "g++ -O2 -g -static -pthread -w"),
    built("clang++ -O2", "clang++ -O2 -g -pthread -w"),
    Environment { after: "strip --strip-debug faults", ..built("symbols only", "g++ -O2 -g -pthread -w") },
    Environment { after: BY_BUILD_ID, ..built("debug by id", "g++ -O2 -g -pthread -w") },
    Environment { after: MINI, ..built("mini debug info", "g++ -O2 -g -pthread -w") },
];

const RUST_BUILDS: &[Environment] = &[
    built("-O0", "rustc --edition 2021 -Cpanic=abort -Copt-level=0 -g"),
    built("-O1", "rustc --edition 2021 -Cpanic=abort -Copt-level=1 -g"),
    built("-O2", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -g"),
    built("-O3", "rustc --edition 2021 -Cpanic=abort -Copt-level=3 -g"),
    built("-Os LTO", "rustc --edition 2021 -Cpanic=abort -Copt-level=s -Clto -g"),
    built("v0 names", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Csymbol-mangling-version=v0 -g"),
    built("static", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Ctarget-feature=+crt-static -g"),
    built("symbols only", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Cforce-unwind-tables=yes"),
    built(
        "no tables -Os",
        "rustc --edition 2021 -Cpanic=abort -Copt-level=s -Crelocation-model=static -Cforce-unwind-tables=no",
    ),
    built(
        "no tables -Oz",
        "rustc --edition 2021 -Cpanic=abort -Copt-level=z -Crelocation-model=static -Cforce-unwind-tables=no",
    ),
    built("no tables -O0", "rustc --edition 2021 -Cpanic=abort -Copt-level=0 -Cforce-unwind-tables=no"),
    built("v0 names -O0", "rustc --edition 2021 -Cpanic=abort -Copt-level=0 -Csymbol-mangling-version=v0"),
    built("v0 names, bare", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Csymbol-mangling-version=v0"),
    built(
        "v0 names -Os",
        "rustc --edition 2021 -Cpanic=abort -Copt-level=s -Csymbol-mangling-version=v0 -Cforce-unwind-tables=no",
    ),
    built("line tables", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -Cdebuginfo=line-tables-only"),
    Environment { after: BY_BUILD_ID, ..built("debug by id", "rustc --edition 2021 -Cpanic=abort -Copt-level=2 -g") },
];
