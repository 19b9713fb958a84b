//! Writes small ELF files, right and wrong ones, so that a test can say what no compiler would.

const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOBITS: u32 = 8;
const SHT_REL: u32 = 9;
const ALLOC: u64 = 2;
const EXEC: u64 = 4;

/// What a symbol names.
#[derive(Clone, Copy)]
pub(crate) enum Names {
    Variable = 1,
    Function = 2,
}

/// An ELF file in the making. Sections are numbered from 1 in the order of adding, symbols too.
#[derive(Default)]
pub(crate) struct Builder {
    sections: Vec<Section>,
    symbols: Vec<u8>,
    names: Vec<u8>,
}

struct Section {
    name: String,
    kind: u32,
    flags: u64,
    info: u32,
    link: u32,
    len: u64,
    bytes: Vec<u8>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { symbols: vec![0; 24], names: vec![0], ..Self::default() }
    }

    fn section(&mut self, name: &str, kind: u32, flags: u64, bytes: &[u8]) -> u16 {
        self.sections.push(Section {
            name: name.to_owned(),
            kind,
            flags,
            info: 0,
            link: 0,
            len: bytes.len() as u64,
            bytes: bytes.to_vec(),
        });
        u16::try_from(self.sections.len()).expect("few")
    }

    /// A section of instructions, given as assembler text.
    pub(crate) fn text(&mut self, name: &str, text: &str) -> u16 {
        let slots = kumite::isa::assemble(text).expect("text of the test");
        self.section(name, SHT_PROGBITS, ALLOC | EXEC, slots.as_flattened())
    }

    /// A section of instructions as bytes.
    pub(crate) fn text_bytes(&mut self, name: &str, bytes: &[u8]) -> u16 {
        self.section(name, SHT_PROGBITS, ALLOC | EXEC, bytes)
    }

    /// A section of variables.
    pub(crate) fn data(&mut self, name: &str, bytes: &[u8]) -> u16 {
        self.section(name, SHT_PROGBITS, ALLOC, bytes)
    }

    /// A section of zeros that the file does not hold.
    pub(crate) fn zeros(&mut self, name: &str, len: u64) -> u16 {
        let section = self.section(name, SHT_NOBITS, ALLOC, &[]);
        self.sections.last_mut().expect("just added").len = len;
        section
    }

    /// A section that takes no memory, such as `.BTF`.
    pub(crate) fn note(&mut self, name: &str, bytes: &[u8]) -> u16 {
        self.section(name, SHT_PROGBITS, 0, bytes)
    }

    /// Changes the type of the last section.
    pub(crate) fn of_type(&mut self, kind: u32) {
        self.sections.last_mut().expect("a section").kind = kind;
    }

    /// A symbol; its number.
    pub(crate) fn symbol(&mut self, name: &str, names: Names, section: u16, value: u64, len: u64) -> u32 {
        self.symbol_bound(name, names as u8 | 1 << 4, section, value, len)
    }

    /// A symbol with type and binding as ELF writes them.
    pub(crate) fn symbol_bound(&mut self, name: &str, info: u8, section: u16, value: u64, len: u64) -> u32 {
        let number = u32::try_from(self.symbols.len() / 24).expect("few");
        let at = u32::try_from(self.names.len()).expect("few");
        self.names.extend(name.bytes().chain([0]));
        self.symbols.extend(at.to_le_bytes());
        self.symbols.extend([info, 0]);
        self.symbols.extend(section.to_le_bytes());
        self.symbols.extend(value.to_le_bytes());
        self.symbols.extend(len.to_le_bytes());
        number
    }

    /// Relocations of a section: offset, type, symbol.
    pub(crate) fn relocations(&mut self, section: u16, entries: &[(u64, u32, u32)]) {
        let entry = |(offset, kind, symbol): &(u64, u32, u32)| {
            [offset.to_le_bytes(), (u64::from(*symbol) << 32 | u64::from(*kind)).to_le_bytes()].concat()
        };
        let bytes: Vec<u8> = entries.iter().flat_map(entry).collect();
        self.section(".rel", SHT_REL, 0, &bytes);
        self.sections.last_mut().expect("just added").info = section.into();
    }

    /// The file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let (symbols, names) = (std::mem::take(&mut self.symbols), std::mem::take(&mut self.names));
        let names_section = self.section(".strtab", SHT_STRTAB, 0, &names);
        self.section(".symtab", SHT_SYMTAB, 0, &symbols);
        self.sections.last_mut().expect("just added").link = names_section.into();
        self.section(".shstrtab", SHT_STRTAB, 0, &[]);
        let mut section_names = vec![0];
        let mut headers = vec![0; 64];
        let mut bytes = vec![0; 64];
        let count = self.sections.len() + 1;
        for section in &mut self.sections {
            let name = u32::try_from(section_names.len()).expect("short");
            section_names.extend(section.name.bytes().chain([0]));
            if section.name == ".shstrtab" {
                section.bytes.clone_from(&section_names);
                section.len = section_names.len() as u64;
            }
            let offset = bytes.len() as u64;
            bytes.extend(&section.bytes);
            headers.extend(name.to_le_bytes());
            headers.extend(section.kind.to_le_bytes());
            for word in [section.flags, 0, offset, section.len] {
                headers.extend(word.to_le_bytes());
            }
            headers.extend(section.link.to_le_bytes());
            headers.extend(section.info.to_le_bytes());
            headers.extend([0; 16]);
        }
        let table = bytes.len() as u64;
        bytes.extend(headers);
        let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header.extend([1, 0, 247, 0, 1, 0, 0, 0]);
        header.extend([0; 16]);
        header.extend(table.to_le_bytes());
        header.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0]);
        header.extend(u16::try_from(count).expect("few").to_le_bytes());
        header.extend(u16::try_from(count - 1).expect("few").to_le_bytes());
        bytes[..64].copy_from_slice(&header);
        bytes
    }
}
