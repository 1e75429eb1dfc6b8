//! MessagePack written as PROTOCOL.md writes it: JSON, with `h'…'` for bytes. Reads only what luassl's messages hold.

/// The one value in `bytes`.
pub(crate) fn notation(bytes: &[u8]) -> String {
    let mut reader = Reader(bytes);
    let text = reader.value();
    assert!(reader.0.is_empty(), "bytes follow {text}");
    text
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn value(&mut self) -> String {
        match self.number(1) as u8 {
            small @ 0x00..=0x7f => small.to_string(),
            map @ 0x80..=0x8f => self.map(u64::from(map & 0x0f)),
            list @ 0x90..=0x9f => self.list(u64::from(list & 0x0f)),
            text @ 0xa0..=0xbf => self.text(u64::from(text & 0x1f)),
            0xc2 => "false".into(),
            0xc3 => "true".into(),
            marker @ 0xc4..=0xc6 => {
                let length = self.number(1 << (marker - 0xc4));
                self.bytes(length)
            }
            marker @ 0xcc..=0xcf => self.number(1 << (marker - 0xcc)).to_string(),
            marker @ 0xd9..=0xdb => {
                let length = self.number(1 << (marker - 0xd9));
                self.text(length)
            }
            0xdc => {
                let length = self.number(2);
                self.list(length)
            }
            0xde => {
                let length = self.number(2);
                self.map(length)
            }
            negative @ 0xe0.. => (negative as i8).to_string(),
            marker => panic!("marker {marker:#x}"),
        }
    }

    fn take(&mut self, length: u64) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length as usize);
        self.0 = rest;
        taken
    }

    fn number(&mut self, width: u64) -> u64 {
        self.take(width).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn text(&mut self, length: u64) -> String {
        format!("{:?}", std::str::from_utf8(self.take(length)).unwrap())
    }

    fn bytes(&mut self, length: u64) -> String {
        let hex: String = self.take(length).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("h'{hex}'")
    }

    fn list(&mut self, length: u64) -> String {
        let values: Vec<_> = (0..length).map(|_| self.value()).collect();
        format!("[{}]", values.join(", "))
    }

    fn map(&mut self, length: u64) -> String {
        let entries: Vec<_> = (0..length).map(|_| format!("{}: {}", self.value(), self.value())).collect();
        format!("{{{}}}", entries.join(", "))
    }
}
