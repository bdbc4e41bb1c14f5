//! Names of functions: from the symbol that a linker knew to the name that a person gave.

mod local;

use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// The longest symbol that is demangled, in bytes: a hostile one could otherwise unfold without end.
const SYMBOL_LIMIT: usize = 16 << 10;

/// The longest list of arguments that stands in a name as it is, in bytes; of a longer one there is a digest.
const OVERLOAD_LIMIT: usize = 160;
/// What Rust's older mangling has before the hash.
const HASH: &str = "17h";
/// The traits of whatever can be called.
const FUNCTION_TRAITS: [&str; 2] = ["core::ops::function::", "core::ops::async_function::"];

/// The demangled name, whole, as a traceback for people shows it.
pub fn demangled(symbol: &str) -> String {
    if symbol.len() > SYMBOL_LIMIT {
        return symbol.to_owned();
    }
    if let Ok(name) = rustc_demangle::try_demangle(symbol) {
        return bounded(format!("{name:#}"));
    }
    if symbol.starts_with("_Z")
        && let Ok(name) = cpp_demangle::Symbol::new(symbol)
        && let Ok(name) = name.demangle()
    {
        return bounded(name);
    }
    symbol.to_owned()
}

fn bounded(mut name: String) -> String {
    if name.len() > SYMBOL_LIMIT {
        let end = (0..=SYMBOL_LIMIT).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

/// The name without arguments, template and generic arguments, return type and qualifiers: what the rules judge.
///
/// `<app::Tree<T> as core::ops::Drop>::drop` becomes `app::Tree::drop`; `int ns::f<char>(char const*) const` becomes `ns::f`.
pub fn essence(name: &str) -> String {
    parts(name).0
}

/// What tells a function apart from others of its essence: `(int)`, `<char>(char const*) const`, ` as app::Sell`.
///
/// Empty for what only one file of C++ can see: g++'s debug information has no linkage name for it, so that a copied
/// one would have another name than the same function in a build that copied nothing.
pub fn overload(symbol: &str, whole: &str) -> String {
    let is_rust = symbol.len() <= SYMBOL_LIMIT && rustc_demangle::try_demangle(symbol).is_ok();
    if !is_rust && (whole == symbol || !symbol.starts_with("_Z") || local::is_local(symbol)) {
        return String::new();
    }
    let mut told = parts(whole).1;
    if !is_rust {
        told = same_in_releases(&told);
    }
    if let Some(of) = trait_of(whole).filter(|_| is_rust) {
        told = format!(" as {of}{told}");
    }
    if told.len() > OVERLOAD_LIMIT {
        let digest = crate::space::hex(&Sha256::digest(told.as_bytes()));
        told = format!("<#{}>", &digest[..12]);
    }
    told
}

/// The symbol up to the hash that Rust's older mangling ends in, and the hash: it alone tells instances of a generic
/// function apart there, and every build has another.
pub fn hash_of_instance(symbol: &str) -> Option<(&str, &str)> {
    let head = symbol.strip_suffix('E')?;
    let at = head.len().checked_sub(HASH.len() + 16)?;
    let (before, hash) = (head.get(..at + HASH.len())?, head.get(at + HASH.len()..)?);
    let is_hash = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (symbol.starts_with("_ZN") && before.ends_with(HASH) && is_hash).then_some((before, hash))
}

/// Whether a mangled name of C++ is, or has in it, what only one source file can see.
pub fn is_local_cxx(symbol: &str) -> bool {
    symbol.len() <= SYMBOL_LIMIT && local::is_local(symbol)
}

/// Without what a release of the C++ library or a flag adds to its types.
fn same_in_releases(told: &str) -> String {
    const TEXT: &str = "std::basic_string<char, std::char_traits<char>, std::allocator<char>>";
    let told = told.replace("[abi:cxx11]", "").replace("__cxx11::", "");
    told.replace(" >", ">").replace(TEXT, "std::string")
}

/// The essence, and what was left out of it that belongs to the function and not to its return type.
fn parts(name: &str) -> (String, String) {
    let name = implementer(name);
    let Flat { text: flat, groups, qualifiers } = without_brackets(&name);
    // A template's return type stands before its name; operators contain spaces, too.
    let from = match flat.find("operator") {
        Some(operator) => flat[..operator].rfind(' ').map_or(0, |space| space + 1),
        None => flat.trim_end().rfind(' ').map_or(0, |space| space + 1),
    };
    let short = flat[from..].trim();
    let essence =
        if short.is_empty() { flat.trim().to_owned() } else { short.trim_end_matches("::").replace("::::", "::") };
    let is_own = |(at, group): &(usize, String)| *at >= from && group != "()";
    let own: String = groups.into_iter().filter(is_own).map(|(_, group)| group).collect();
    (essence, own + &qualifiers)
}

/// Whether a symbol of a Go program is Go's: a path, a dot, a name. Those of C in it have no dot.
pub fn is_go(symbol: &str) -> bool {
    let name = symbol.rsplit('/').next().unwrap_or(symbol);
    name.split_once('.').is_some_and(|(package, name)| !package.is_empty() && !name.is_empty())
        && !symbol.starts_with("_Z")
}

/// Whether a compiler of Rust made the name.
pub fn is_rust(symbol: &str) -> bool {
    rustc_demangle::try_demangle(symbol).is_ok()
}

/// A Go function's name without what differs between builds: type arguments, and by which registers it is called.
///
/// Receivers stay, and the numbers of closures: `main.(*Shop[go.shape.int]).Sell.func1` becomes `main.(*Shop).Sell.func1`.
pub fn go_essence(symbol: &str) -> String {
    let symbol = symbol.strip_suffix(".abi0").or_else(|| symbol.strip_suffix(".abiinternal")).unwrap_or(symbol);
    let mut name = String::with_capacity(symbol.len());
    let mut depth = 0usize;
    for character in symbol.chars() {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => name.push(character),
            _ => {}
        }
    }
    name
}

/// Rust's `<Type as Trait>::method` and `<Type>::method`: the type alone, unless it is of no crate.
fn implementer(name: &str) -> Cow<'_, str> {
    let Some(inner) = name.strip_prefix("_<").or_else(|| name.strip_prefix('<')) else {
        return impl_block(name);
    };
    let Some(end) = closing(inner) else { return Cow::Borrowed(name) };
    let (own, rest) = (&inner[..end], inner[end + 1..].trim_start_matches('>'));
    let (kind, of) = match split_as(own) {
        Some((kind, of)) => (kind, Some(of)),
        None => (own, None),
    };
    let kind = kind
        .trim_start_matches(['&', '*'])
        .trim_start_matches("mut ")
        .trim_start_matches("const ")
        .trim_start_matches("dyn ");
    // A type parameter, a tuple or a primitive belongs to nobody: the trait says whose code it is. Nor is what the compiler puts around a
    // function, so that it can be passed on, the function's own code; the older mangling has the trait alone there.
    let is_passed_on = of.is_some_and(|of| FUNCTION_TRAITS.iter().any(|path| of.starts_with(path)));
    let owner = if kind.contains("::") && !is_passed_on { kind } else { of.unwrap_or("core") };
    Cow::Owned(format!("{owner}{rest}"))
}

/// The trait that a method of Rust is of, where the name says both the type that has it and the trait.
fn trait_of(name: &str) -> Option<&str> {
    if let Some(inner) = name.strip_prefix("_<").or_else(|| name.strip_prefix('<')) {
        let (_, of) = split_as(&inner[..closing(inner)?])?;
        return implementer(name).strip_prefix(of).is_none().then_some(of);
    }
    let inner = &name[name.find("<impl ")? + 6..];
    inner[..closing(inner)?].split_once(" for ").map(|(of, _)| of)
}

/// `app::_<impl Trait for app::Type>::method` and `app::<impl app::Type>::method`.
fn impl_block(name: &str) -> Cow<'_, str> {
    let Some(at) = name.find("<impl ") else { return Cow::Borrowed(name) };
    let inner = &name[at + 6..];
    let Some(end) = closing(inner) else { return Cow::Borrowed(name) };
    let kind = inner[..end].rsplit(" for ").next().unwrap_or_default();
    let prefix = name[..at].trim_end_matches('_').trim_end_matches("::");
    let owner = if kind.contains("::") { kind } else { prefix };
    Cow::Owned(format!("{owner}{}", &inner[end + 1..]))
}

/// Where the bracket that is open at the beginning closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if before == '-' || before == '=' => {}
            '>' if depth == 0 => return Some(at),
            '>' => depth -= 1,
            _ => {}
        }
        before = character;
    }
    None
}

fn split_as(own: &str) -> Option<(&str, &str)> {
    let mut depth = 0usize;
    for (at, character) in own.char_indices() {
        match character {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && own[at..].starts_with(" as ") => return Some((&own[..at], &own[at + 4..])),
            _ => {}
        }
    }
    None
}

/// A name without what stands in brackets.
struct Flat {
    text: String,
    /// What stood in brackets, and where in the text.
    groups: Vec<(usize, String)>,
    /// What stood behind the last one: ` const`.
    qualifiers: String,
}

/// Leaves out what stands in `<…>`, `(…)` and `[…]`; keeps operators' signs, anonymous namespaces and lambdas.
fn without_brackets(name: &str) -> Flat {
    let mut out = String::with_capacity(name.len());
    let mut groups: Vec<(usize, String)> = Vec::new();
    let mut depth = 0usize;
    let mut before = ' ';
    let mut rest = name;
    while let Some(character) = rest.chars().next() {
        if depth == 0 {
            let kept = ["operator()", "operator<<=", "operator>>=", "operator<=>", "operator<<"]
                .into_iter()
                .chain([
                    "operator>>",
                    "operator<=",
                    "operator>=",
                    "operator->*",
                    "operator->",
                    "operator<",
                    "operator>",
                    "operator[]",
                ])
                .find(|kept| rest.starts_with(kept));
            if let Some(kept) = kept {
                out.push_str(kept);
                rest = &rest[kept.len()..];
                continue;
            }
            if let Some(after) = rest.strip_prefix("(anonymous namespace)") {
                out.push_str("{anonymous}");
                rest = after;
                continue;
            }
            if rest.starts_with("{lambda") || rest.starts_with("'lambda") || rest.starts_with("<lambda") {
                out.push_str("{lambda}");
                let close = if rest.starts_with('{') {
                    '}'
                } else if rest.starts_with('<') {
                    '>'
                } else {
                    '\''
                };
                rest = rest[1..].split_once(close).map_or("", |(_, rest)| rest);
                continue;
            }
        }
        if depth == 0 && matches!(character, '<' | '(' | '[') {
            groups.push((out.len(), String::new()));
        }
        match groups.last_mut() {
            Some((_, group)) if depth > 0 || group.is_empty() => group.push(character),
            _ => {}
        }
        match character {
            '<' | '(' | '[' => depth += 1,
            '>' if before == '-' => {}
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(character),
            _ => {}
        }
        before = character;
        rest = &rest[character.len_utf8()..];
    }
    let whole = out.clone();
    for qualifier in [" const", " volatile", " &", " &&", " noexcept"] {
        out.truncate(out.trim_end().strip_suffix(qualifier).map_or(out.len(), str::len));
    }
    Flat { qualifiers: whole[out.len()..].trim_end().to_owned(), text: out, groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_template_arguments_are_not_of_the_essence() {
        for (whole, short) in [
            ("ns::f(char const*) const", "ns::f"),
            ("int ns::f<char, std::vector<int> >(char)", "ns::f"),
            ("(anonymous namespace)::helper(int)", "{anonymous}::helper"),
            ("Foo::operator()(int) const", "Foo::operator()"),
            ("Foo::operator<<(int)", "Foo::operator<<"),
            ("run()::{lambda(int)#1}::operator()(int) const", "run::{lambda}::operator()"),
            ("app::Tree<T>::insert", "app::Tree::insert"),
            ("<app::Tree<T> as core::ops::drop::Drop>::drop", "app::Tree::drop"),
            ("<T as core::convert::Into<U>>::into", "core::convert::Into::into"),
            ("<&mut I as core::iter::Iterator>::next", "core::iter::Iterator::next"),
            ("core::fmt::num::<impl core::fmt::Display for i32>::fmt", "core::fmt::num::fmt"),
            ("app::_<impl core::fmt::Display for app::Foo>::fmt", "app::Foo::fmt"),
            ("<*const u32>::read_volatile", "core::read_volatile"),
            ("app::main::{{closure}}", "app::main::{{closure}}"),
            ("<app::work as core::ops::function::FnOnce<()>>::call_once", "core::ops::function::FnOnce::call_once"),
            ("main", "main"),
        ] {
            assert_eq!(essence(whole), short, "{whole}");
        }
    }

    #[test]
    fn functions_of_one_essence_are_told_apart_by_what_they_take() {
        for (symbol, told) in [
            ("_ZN1O1fEi", "(int)"),
            ("_ZN1O1fEd", "(double)"),
            ("_ZNK1O2atEv", " const"),
            ("_ZN1O2atEv", ""),
            ("_Z2tpIiEvT_", "<int>(int)"),
            ("_Z7repeatsILi3EEvv", "<3>"),
            ("_ZN4TreeIcE1fIlEEiPKc", "<char><long>(char const*)"),
            ("_ZN6OtherCC4Ei", "(int)"),
            ("_ZN6OtherCC1Ei", "(int)"),
            ("_ZN1OclEi", "(int)"),
            ("_Z4textNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", "(std::string)"),
            ("_ZN3app4main17h0123456789abcdefE", ""),
            ("_RNvCs1234_3app4main", ""),
            ("_RINvCs1234_3app1glE", "<i32>"),
            ("_RINvCs1234_3app1gReE", "<&str>"),
            ("_RNvXCs1234_3appNtB2_4ItemNtB2_4Sell4sell", " as app::Sell"),
            (
                "_ZN58_$LT$app..Err$u20$as$u20$core..convert..From$LT$u8$GT$$GT$4from17h0123456789abcdefE",
                " as core::convert::From<u8>",
            ),
            ("main", ""),
            ("x_walk", ""),
        ] {
            let whole = demangled(symbol);
            assert_eq!(overload(symbol, &whole), told, "{whole}");
        }
        let long = format!("_Z1f{}", "PKcd".repeat(60));
        let digest = overload(&long, &demangled(&long));
        assert!(digest.len() == 15 && digest.starts_with("<#"), "{digest}");
    }

    #[test]
    fn what_one_file_alone_can_see_has_the_same_name_with_and_without_its_symbol() {
        for symbol in [
            "_ZL1fi",
            "_ZN2nsL1fEi",
            "_ZN12_GLOBAL__N_11fEi",
            "_ZZ4workiENKUliE_clEi",
            "_ZZ4workiENK3$_0clEi",
            "_Z3runIZ4workiEUlvE_EvT_",
            "_ZNSt6threadC2IZ4workiEUlvE_JEvEEOT_DpOT0_",
        ] {
            let whole = demangled(symbol);
            assert!(whole != symbol || symbol.contains('$'), "{symbol}");
            assert_eq!(overload(symbol, &whole), "", "{whole}");
        }
        for symbol in [
            "_ZN2XL3fooEi",
            "_ZN3Zoo1fILi3ELb1EEEvi",
            "_ZN3ZooC4Ei",
            "_Z4showIL5Color1EEvi",
            "_ZN4Pool3getERA10_KS_",
            "_ZThn16_N3Zoo1fEv",
        ] {
            assert!(!local::is_local(symbol), "{symbol}");
        }
    }

    #[test]
    fn the_hash_of_the_older_mangling_of_rust_is_found() {
        assert_eq!(hash_of_instance("_ZN3app1g17h0123456789abcdefE"), Some(("_ZN3app1g17h", "0123456789abcdef")));
        for other in ["_ZN3app1gE", "_RINvCs1234_3app1glE", "main", "E", "_ZN3app4äöüäöüäöüäöüE"] {
            assert_eq!(hash_of_instance(other), None, "{other}");
        }
    }

    #[test]
    fn receivers_and_closures_tell_functions_of_go_apart() {
        for (whole, short) in [
            ("main.(*Shop).Sell", "main.(*Shop).Sell"),
            ("main.Till.Count", "main.Till.Count"),
            ("main.(*Tree[go.shape.int_0,go.shape.[]string]).Add.func1.2", "main.(*Tree).Add.func1.2"),
            ("main.Map[...]", "main.Map"),
            ("example.org/shop/till.(*Till).Close-fm", "example.org/shop/till.(*Till).Close-fm"),
            ("main.(*Machine).resume", "main.(*Machine).resume"),
            ("runtime.raise.abi0", "runtime.raise"),
            ("main.init.0", "main.init.0"),
        ] {
            assert!(is_go(whole), "{whole}");
            assert_eq!(go_essence(whole), short, "{whole}");
        }
        for other in ["crosscall2", "_cgo_topofstack", "x_walk", "_ZN4main4sellEv.cold", "main."] {
            assert!(!is_go(other), "{other}");
        }
    }

    #[test]
    fn the_manglings_of_three_languages_are_read() {
        assert_eq!(demangled("_ZN3app4main17h0123456789abcdefE"), "app::main");
        assert_eq!(demangled("_RNvCs1234_3app4main"), "app::main");
        assert_eq!(demangled("_ZN2ns1fEPKc"), "ns::f(char const*)");
        assert_eq!(demangled("plain_c"), "plain_c");
    }

    #[test]
    fn a_symbol_of_endless_length_stays_as_it_is() {
        let hostile = format!("_Z{}", "N".repeat(100_000));
        assert_eq!(demangled(&hostile), hostile);
        essence(&hostile);
    }
}
