//! Whom the lists of bind9 are for: `{ !bad; any; }`, in which the first element that fits counts.

use super::bind::Statement;
use std::collections::BTreeMap;

/// How deep lists may lie in each other.
const MAX_DEPTH: usize = 16;

/// The lists that have a name: `acl ours { 10.0.0.0/8; };`.
#[derive(Debug)]
pub(super) struct Lists<'s>(BTreeMap<&'s str, &'s [Statement]>);

/// One element of a list.
struct Element<'s> {
    is_not: bool,
    name: &'s str,
    inner: &'s [Statement],
}

impl<'s> Lists<'s> {
    pub(super) fn of(all: &'s [Statement]) -> Lists<'s> {
        let named = all.iter().filter(|one| one.is("acl"));
        Lists(named.filter_map(|one| Some((one.words.get(1)?.as_str(), &one.block[..]))).collect())
    }

    /// Whether everybody is in a list, and nobody stands before with a `!`.
    pub(super) fn is_for_all(&self, list: &[Statement]) -> bool {
        self.has_all(list, 0)
    }

    /// Whether nobody is in a list.
    pub(super) fn is_for_nobody(&self, list: &[Statement]) -> bool {
        self.has_none(list, 0)
    }

    /// What a list says in the end, with those of other names in their places: `internals` is `127.0.0.0/8`, `10.0.0.0/8`. One that stands in another
    /// behind a `!`, and whom this server itself is among, stay as they are written.
    pub(super) fn written_out(&self, list: &'s [Statement]) -> Vec<String> {
        self.out(list, 0)
    }

    fn out(&self, list: &'s [Statement], depth: usize) -> Vec<String> {
        let one = |statement: &'s Statement| {
            let inner = Element::read(statement).filter(|element| !element.is_not).and_then(|one| self.inner(&one));
            match inner.filter(|_| depth < MAX_DEPTH) {
                Some(inner) => self.out(inner, depth + 1),
                None => vec![statement.words.concat()],
            }
        };
        list.iter().flat_map(one).collect()
    }

    fn has_all(&self, list: &[Statement], depth: usize) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        for element in list.iter().filter_map(Element::read) {
            let inner = self.inner(&element);
            if element.is_not {
                // Who signs with a key is another client than those that exercise it.
                let is_of_nobody = element.name == "none" || element.name == "key";
                if !is_of_nobody && inner.is_none_or(|inner| !self.has_none(inner, depth + 1)) {
                    return false;
                }
            } else if element.name == "any" || inner.is_some_and(|inner| self.has_all(inner, depth + 1)) {
                return true;
            }
        }
        false
    }

    fn has_none(&self, list: &[Statement], depth: usize) -> bool {
        let is_nobody = |element: Element<'_>| {
            let inner = self.inner(&element);
            element.is_not
                || element.name == "none"
                || (depth < MAX_DEPTH && inner.is_some_and(|inner| self.has_none(inner, depth + 1)))
        };
        list.iter().filter_map(Element::read).all(is_nobody)
    }

    /// The list that an element is, by its name or as it stands there.
    fn inner<'e>(&self, element: &Element<'e>) -> Option<&'e [Statement]>
    where
        's: 'e,
    {
        if element.inner.is_empty() { self.0.get(element.name).copied() } else { Some(element.inner) }
    }
}

impl<'s> Element<'s> {
    fn read(statement: &'s Statement) -> Option<Element<'s>> {
        let first = statement.words.first().map_or("", String::as_str);
        let name = first.strip_prefix('!').unwrap_or(first);
        // A name in quotes is a word of its own behind the sign.
        let name = if name.is_empty() { statement.words.get(1).map_or("", String::as_str) } else { name };
        (!name.is_empty() || !statement.block.is_empty()).then_some(Element {
            is_not: first.starts_with('!'),
            name,
            inner: &statement.block,
        })
    }
}
