//! Whether a mangled name of C++ is, or has in it, what only one source file can see.

/// Static functions, anonymous namespaces, lambdas, what stands within a function, and whatever a template makes of
/// these.
///
/// It goes through the name by its lengths, so that a letter within an identifier counts for nothing.
pub(super) fn is_local(symbol: &str) -> bool {
    let Some(mangled) = symbol.strip_prefix("_Z") else { return false };
    // How far a virtual method's object is moved stands before its name.
    let mangled =
        if mangled.starts_with("Th") { mangled.split_once('_').map_or("", |(_, name)| name) } else { mangled };
    let mut rest = mangled.as_bytes();
    // What `E` will close.
    let mut open: Vec<u8> = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        let next = after.first().copied().unwrap_or_default();
        let in_arguments = matches!(open.last(), Some(b'I' | b'J' | b'X'));
        rest = match first {
            b'0'..=b'9' => {
                let Some((name, after)) = identifier(rest) else { return false };
                if name.starts_with(b"_GLOBAL__N_") || name.starts_with(b"$_") {
                    return true;
                }
                after
            }
            // What stands within a function; a lambda, or a type without a name.
            b'Z' => return true,
            b'U' if matches!(next, b'l' | b't') => return true,
            // Among arguments it is a number, `Li3E`, or one of an enumeration, `L5Color1E`.
            b'L' if in_arguments => literal(after).unwrap_or(after),
            b'L' if next.is_ascii_digit() => return true,
            b'N' | b'I' | b'J' | b'X' | b'F' => {
                open.push(*first);
                after
            }
            b'D' if matches!(next, b't' | b'T') => {
                open.push(b'D');
                &after[1..]
            }
            b'E' => {
                open.pop();
                after
            }
            // The kind of a constructor or destructor.
            b'C' | b'D' if next.is_ascii_digit() => &after[1..],
            // References to what was there before, and the sizes of arrays, are numbers and no lengths.
            b'S' | b'T' if next == b'_' || next.is_ascii_digit() || next.is_ascii_uppercase() => past_bar(after),
            b'A' if next.is_ascii_digit() => past_bar(after),
            _ => after,
        };
    }
    false
}

/// An identifier, and what follows.
fn identifier(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length: usize = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    text[digits..].split_at_checked(length)
}

/// What follows a number whose type is a letter or a name without a path.
fn literal(text: &[u8]) -> Option<&[u8]> {
    let value = match text.first()? {
        b'a'..=b'z' => &text[1..],
        b'0'..=b'9' => identifier(text)?.1,
        _ => return None,
    };
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'n').count();
    value[digits..].strip_prefix(b"E")
}

fn past_bar(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()).count();
    &text[count + usize::from(text.get(count) == Some(&b'_'))..]
}
