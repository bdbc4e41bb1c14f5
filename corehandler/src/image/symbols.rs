//! The tables of symbols: which function or variable lies at an address, and where one of a name lies.

use super::Image;

/// A function's name, as the linker knew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The mangled name, without the version that `@` begins.
    pub name: String,
    /// Where it begins, in the file's own numbering.
    pub address: u64,
    /// Its bytes; 0 where the table does not say where it ends.
    pub size: u64,
}

impl Image {
    /// The functions of the table `symbols` (`.symtab` or `.dynsym`) that cover these addresses, which are sorted, in the file's
    /// own numbering. One pass over the table; only the names that are wanted are read.
    pub fn functions(&self, table: &str, addresses: &[u64]) -> Vec<Option<Symbol>> {
        let strings = if table == ".dynsym" { ".dynstr" } else { ".strtab" };
        let mut best: Vec<Option<Candidate>> = vec![None; addresses.len()];
        let Some(symbols) = self.kept(table) else { return vec![None; addresses.len()] };
        for raw in symbols.data.chunks_exact(24) {
            let Some(entry) = Entry::parse(raw) else { continue };
            let from = addresses.partition_point(|address| *address < entry.address);
            for (address, best) in addresses.iter().zip(&mut best).skip(from) {
                // A symbol without a size (hand-written assembly) covers what nothing else does, up to a page.
                if *address - entry.address >= entry.size.max(if entry.size == 0 { 4096 } else { 0 }) {
                    break;
                }
                match best {
                    Some(best) => best.meet(entry),
                    None => *best = Some(Candidate { entry, names: vec![entry.name] }),
                }
            }
        }
        best.into_iter().map(|candidate| self.named(strings, &candidate?)).collect()
    }

    /// The function of a table that covers this address.
    pub fn function(&self, table: &str, address: u64) -> Option<Symbol> {
        self.functions(table, &[address]).pop().flatten()
    }

    /// The variable that covers this address, in the file's own numbering.
    pub fn variable(&self, address: u64) -> Option<Symbol> {
        let symbols = self.kept(".symtab")?;
        let variables = symbols.data.chunks_exact(24).filter(|raw| raw[4] & 15 == 1);
        let mut entries = variables.filter_map(Entry::of);
        let entry = entries.find(|entry| address.checked_sub(entry.address).is_some_and(|at| at < entry.size))?;
        self.named(".strtab", &Candidate { entry, names: vec![entry.name] })
    }

    /// For each function of the full table: where its name stands among the strings, and where it begins.
    pub(crate) fn function_names(&self) -> Vec<(u32, u64)> {
        let Some(table) = self.kept(".symtab") else { return vec![] };
        let functions = table.data.chunks_exact(24).filter(|raw| raw[4] & 15 == 2).filter_map(Entry::parse);
        functions.map(|entry| (entry.name, entry.address)).collect()
    }

    /// Where functions begin, and their sizes.
    #[cfg(test)]
    pub(crate) fn sized_functions(&self, table: &str) -> Vec<(u64, u64)> {
        let symbols = self.kept(table).map(|table| table.data.clone()).unwrap_or_default();
        let functions = symbols.chunks_exact(24).filter(|raw| raw[4] & 15 == 2).filter_map(Entry::parse);
        functions.filter(|entry| entry.size > 0).map(|entry| (entry.address, entry.size)).collect()
    }

    /// Of several names of one function, the one for people: few underscores, short.
    fn named(&self, strings: &str, candidate: &Candidate) -> Option<Symbol> {
        let names = candidate.names.iter().filter_map(|name| self.string(strings, u64::from(*name)));
        let underscores = |name: &str| name.bytes().take_while(|byte| *byte == b'_').count();
        let name =
            names.filter(|name| !name.is_empty()).min_by_key(|name| (underscores(name), name.len(), name.clone()))?;
        Some(Symbol { name, address: candidate.entry.address, size: candidate.entry.size })
    }

    fn string(&self, table: &str, at: u64) -> Option<String> {
        let place = self.place(table)?;
        let mut bytes = vec![0; 256];
        loop {
            let got = self.read_file(place.file_offset.checked_add(at)?, &mut bytes);
            let window = &bytes[..got];
            if let Some(end) = window.iter().position(|byte| *byte == 0) {
                let name = String::from_utf8_lossy(&window[..end]).into_owned();
                return Some(name.split('@').next().unwrap_or_default().to_owned());
            }
            if got < bytes.len() || bytes.len() > 1 << 16 {
                return None;
            }
            bytes.resize(bytes.len() * 4, 0);
        }
    }

    /// The address of a variable or function by its name, from the dynamic or the full table.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        [".dynsym", ".symtab"].into_iter().find_map(|table| {
            let strings = self.section(if table == ".dynsym" { ".dynstr" } else { ".strtab" })?.data;
            let symbols = self.section(table)?.data;
            let wanted = |raw: &&[u8]| {
                let at = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]) as usize;
                strings.get(at..).is_some_and(|rest| {
                    rest.starts_with(name.as_bytes()) && matches!(rest.get(name.len()), Some(0 | b'@'))
                })
            };
            let raw = symbols.chunks_exact(24).find(wanted)?;
            Some(u64::from_le_bytes(raw[8..16].try_into().ok()?)).filter(|address| *address != 0)
        })
    }

    /// Which function's address the dynamic linker put at `slot`: how a call through the procedure linkage table finds its target.
    pub fn imported(&self, slot: u64) -> Option<String> {
        [".rela.plt", ".rela.dyn"].into_iter().find_map(|name| {
            let relocations = &self.kept(name)?.data;
            let field = |raw: &[u8], at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap_or_default());
            let raw = relocations.chunks_exact(24).find(|raw| field(raw, 0) == slot)?;
            let (kind, symbol) = (field(raw, 8) & 0xffff_ffff, field(raw, 8) >> 32);
            // 37: a function that chooses its own implementation; the addend is the chooser, which bears the public name.
            if kind == 37 {
                let chooser = field(raw, 16);
                let [found] = self.functions(".symtab", &[chooser]).try_into().ok()?;
                return found.filter(|symbol| symbol.address == chooser).map(|symbol| symbol.name);
            }
            let symbols = &self.kept(".dynsym")?.data;
            let at = usize::try_from(symbol).ok()?.checked_mul(24)?;
            let name = u32::from_le_bytes(symbols.get(at..at + 4)?.try_into().ok()?);
            self.string(".dynstr", u64::from(name)).filter(|name| !name.is_empty())
        })
    }
}

/// A function in a symbol table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: u32,
    address: u64,
    size: u64,
}

impl Entry {
    fn parse(raw: &[u8]) -> Option<Entry> {
        let (info, section) = (raw[4], u16::from_le_bytes([raw[6], raw[7]]));
        // Functions, functions that choose their implementation, and labels of hand-written code.
        if !matches!(info & 15, 0 | 2 | 10) || section == 0 || section == 0xfff1 {
            return None;
        }
        Entry::of(raw)
    }

    /// Of any kind.
    fn of(raw: &[u8]) -> Option<Entry> {
        let address = u64::from_le_bytes(raw[8..16].try_into().ok()?);
        let size = u64::from_le_bytes(raw[16..24].try_into().ok()?);
        let name = u32::from_le_bytes(raw[0..4].try_into().ok()?);
        (name != 0 && address != 0).then_some(Entry { name, address, size })
    }
}

/// The symbols that may be the one around an address.
#[derive(Clone, Debug)]
struct Candidate {
    entry: Entry,
    names: Vec<u32>,
}

/// How many names of one function are compared.
const NAMES: usize = 16;

impl Candidate {
    /// Of two that cover an address the nearer one counts, and the one that has a size; names of one place add up.
    fn meet(&mut self, entry: Entry) {
        let rank = |entry: &Entry| (entry.size != 0, entry.address);
        match rank(&entry).cmp(&rank(&self.entry)) {
            std::cmp::Ordering::Greater => *self = Candidate { entry, names: vec![entry.name] },
            std::cmp::Ordering::Equal if self.names.len() < NAMES => self.names.push(entry.name),
            _ => {}
        }
    }
}
