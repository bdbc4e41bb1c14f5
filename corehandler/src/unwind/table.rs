//! Call frame information: how the registers of a caller are found, at each address of a file.

use crate::{
    core_file::{REGISTERS, RSP},
    image::Image,
    space::Module,
};
use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, Register, RegisterRule,
    UnwindContext, UnwindSection, UnwindTableRow,
};
use std::cell::OnceCell;

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// One table of call frame information.
pub(super) struct Table {
    data: Vec<u8>,
    index: Vec<u8>,
    bases: BaseAddresses,
    is_debug_frame: bool,
}

impl Table {
    fn eh_frame(image: &Image) -> Option<Table> {
        let frame = image.section(".eh_frame").filter(|section| !section.data.is_empty())?;
        let index = image.section(".eh_frame_hdr");
        let mut bases = BaseAddresses::default().set_eh_frame(frame.address);
        if let Some(index) = &index {
            bases = bases.set_eh_frame_hdr(index.address);
        }
        if let Some(text) = image.range(".text") {
            bases = bases.set_text(text.start);
        }
        if let Some(got) = image.range(".got") {
            bases = bases.set_got(got.start);
        }
        let index = index.map(|index| index.data).unwrap_or_default();
        Some(Table { data: frame.data, index, bases, is_debug_frame: false })
    }

    fn debug_frame(image: &Image) -> Option<Table> {
        let frame = image.section(".debug_frame").filter(|section| !section.data.is_empty())?;
        Some(Table { data: frame.data, index: vec![], bases: BaseAddresses::default(), is_debug_frame: true })
    }

    /// The rules at an address, in the file's own numbering.
    pub(super) fn rules(&self, address: u64, context: &mut UnwindContext<usize>) -> Option<Rules> {
        if self.is_debug_frame {
            let section = DebugFrame::new(&self.data, LittleEndian);
            let fde = section.fde_for_address(&self.bases, address, DebugFrame::cie_from_offset).ok()?;
            let row = fde.unwind_info_for_address(&section, &self.bases, context, address).ok()?;
            return Some(Rules::new(row, &section, fde.is_signal_trampoline(), fde.initial_address()));
        }
        let section = EhFrame::new(&self.data, LittleEndian);
        let index = EhFrameHdr::new(&self.index, LittleEndian).parse(&self.bases, 8).ok();
        let fde = match index.as_ref().and_then(|index| index.table()) {
            Some(table) => table.fde_for_address(&section, &self.bases, address, EhFrame::cie_from_offset),
            None => section.fde_for_address(&self.bases, address, EhFrame::cie_from_offset),
        }
        .ok()?;
        let row = fde.unwind_info_for_address(&section, &self.bases, context, address).ok()?;
        Some(Rules::new(row, &section, fde.is_signal_trampoline(), fde.initial_address()))
    }
}

/// How to get one register of the caller.
#[derive(Debug)]
pub(super) enum Rule {
    Unknown,
    Same,
    At(i64),
    Is(i64),
    Register(u16),
    AtExpression(Vec<u8>),
    IsExpression(Vec<u8>),
    Constant(u64),
}

#[derive(Debug)]
pub(super) enum Cfa {
    Register(u16, i64),
    Expression(Vec<u8>),
}

/// The rules of one address, in a form that can be kept: a deep recursion asks for the same few addresses again and again.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) cfa: Cfa,
    pub(super) registers: [Rule; REGISTERS],
    pub(super) return_address: Rule,
    pub(super) is_signal_frame: bool,
    /// Where the function begins.
    pub(super) function: u64,
}

impl Rules {
    fn new<'d, S: UnwindSection<Slice<'d>>>(
        row: &UnwindTableRow<usize>,
        section: &S,
        is_signal_frame: bool,
        function: u64,
    ) -> Rules {
        let bytes = |expression: &gimli::UnwindExpression<usize>| {
            expression.get(section).map(|expression| expression.0.slice().to_vec()).unwrap_or_default()
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => Cfa::Register(register.0, *offset),
            CfaRule::Expression(expression) => Cfa::Expression(bytes(expression)),
        };
        let rule = |register: u16| match row.register(Register(register)) {
            // The convention of the platform: these six survive a call, the stack pointer is the frame's address.
            None if matches!(register, 3 | 6 | 12..=15) => Rule::Same,
            None if register == RSP as u16 => Rule::Is(0),
            None | Some(RegisterRule::Undefined) => Rule::Unknown,
            Some(RegisterRule::SameValue) => Rule::Same,
            Some(RegisterRule::Offset(offset)) => Rule::At(offset),
            Some(RegisterRule::ValOffset(offset)) => Rule::Is(offset),
            Some(RegisterRule::Register(other)) => Rule::Register(other.0),
            Some(RegisterRule::Expression(expression)) => Rule::AtExpression(bytes(&expression)),
            Some(RegisterRule::ValExpression(expression)) => Rule::IsExpression(bytes(&expression)),
            Some(RegisterRule::Constant(value)) => Rule::Constant(value),
            Some(_) => Rule::Unknown,
        };
        let registers = std::array::from_fn(|register| rule(register as u16));
        Rules { cfa, registers, return_address: rule(16), is_signal_frame, function }
    }
}

/// The tables of one module, read when they are first needed.
#[derive(Default)]
pub(super) struct Tables {
    loaded: OnceCell<Vec<Table>>,
}

impl Tables {
    /// The tables of a file that has no other beside it.
    #[cfg(test)]
    pub(super) fn of(image: &Image) -> Vec<Table> {
        Table::eh_frame(image).into_iter().collect()
    }

    pub(super) fn get(&self, module: &Module) -> &[Table] {
        self.loaded.get_or_init(|| {
            let file = module.image.iter().filter_map(Table::eh_frame);
            let debug = module.images().filter_map(Table::debug_frame);
            file.chain(debug).collect()
        })
    }
}
