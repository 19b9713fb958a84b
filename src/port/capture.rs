//! Capture files: frames out of pcap and pcapng, and back.
//!
//! Invariant: frames are Ethernet; any bytes give frames or an error.

use std::io;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

/// First bytes of a pcapng file: the type of its section header block.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Most bytes of a frame that a capture of ours says it may hold.
const SNAP_LEN: u32 = 65535;

/// A capture file cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// The file begins as no capture does.
    #[error("capture: it begins neither as pcap nor as pcapng; write it with tcpdump or tshark")]
    NoCapture,
    /// The file ends too early.
    #[error("capture: it ends within frame {number}; copy it whole, or leave the frame out")]
    Cut {
        /// Which frame is not whole, from 1.
        number: usize,
    },
    /// What stands in the file is no frame.
    #[error("capture: what stands where frame {number} should is none; write the file anew with tcpdump or tshark")]
    Damaged {
        /// Which frame cannot be read, from 1.
        number: usize,
    },
    /// Its frames are not Ethernet.
    #[error("capture: its frames are of link type {link}, not Ethernet (1); capture on an Ethernet device")]
    Link {
        /// `LINKTYPE_*` of tcpdump.
        link: u32,
    },
    /// It holds no frame.
    #[error("capture: it holds no frame; capture some")]
    Empty,
}

impl CaptureError {
    /// What the parser says, where frame `number` should be.
    fn at(number: usize, error: &PcapError) -> Self {
        match error {
            PcapError::IncompleteBuffer | PcapError::IoError(_) => Self::Cut { number },
            PcapError::InvalidField(_)
            | PcapError::Utf8Error(_)
            | PcapError::FromUtf8Error(_)
            | PcapError::InvalidInterfaceId(_) => Self::Damaged { number },
        }
    }
}

/// The form of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    /// The classic one.
    Pcap,
    /// The newer one.
    PcapNg,
}

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// When, since 1970.
    pub at: Duration,
    /// Its bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

impl Capture {
    /// The form that a file's name asks for: pcapng where it ends so, else pcap.
    #[must_use]
    pub fn by_name(name: &str) -> Self {
        if name.ends_with(".pcapng") { Self::PcapNg } else { Self::Pcap }
    }

    /// Reads all frames of a capture of either form.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn read(bytes: &[u8]) -> Result<Vec<CapturedFrame>, CaptureError> {
        let frames = if bytes.starts_with(&PCAPNG_MAGIC) { read_pcapng(bytes)? } else { read_pcap(bytes)? };
        if frames.is_empty() {
            return Err(CaptureError::Empty);
        }
        Ok(frames)
    }

    /// Writes frames as a capture of this form, with times in microseconds.
    #[must_use]
    pub fn write(self, frames: &[CapturedFrame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = match self {
            Self::Pcap => write_pcap(&mut bytes, frames),
            Self::PcapNg => write_pcapng(&mut bytes, frames),
        };
        written.expect("a vector takes every byte");
        bytes
    }
}

fn ethernet(link: DataLink) -> Result<(), CaptureError> {
    if link == DataLink::ETHERNET { Ok(()) } else { Err(CaptureError::Link { link: link.into() }) }
}

fn read_pcap(bytes: &[u8]) -> Result<Vec<CapturedFrame>, CaptureError> {
    let mut reader = PcapReader::new(bytes).map_err(|_| CaptureError::NoCapture)?;
    ethernet(reader.header().datalink)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|error| CaptureError::at(frames.len() + 1, &error))?;
        frames.push(CapturedFrame { at: packet.timestamp, bytes: packet.data.into_owned() });
    }
    Ok(frames)
}

fn read_pcapng(bytes: &[u8]) -> Result<Vec<CapturedFrame>, CaptureError> {
    let mut reader = PcapNgReader::new(bytes).map_err(|_| CaptureError::NoCapture)?;
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.map_err(|error| CaptureError::at(frames.len() + 1, &error))? {
            Block::InterfaceDescription(interface) => ethernet(interface.linktype)?,
            Block::EnhancedPacket(packet) => {
                frames.push(CapturedFrame { at: packet.timestamp, bytes: packet.data.into_owned() });
            }
            Block::SimplePacket(packet) => {
                frames.push(CapturedFrame { at: Duration::ZERO, bytes: packet.data.into_owned() });
            }
            Block::SectionHeader(_)
            | Block::Packet(_)
            | Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::Unknown(_) => {}
        }
    }
    Ok(frames)
}

fn wire_len(frame: &CapturedFrame) -> u32 {
    u32::try_from(frame.bytes.len()).expect("a frame is shorter than 4 GiB")
}

fn write_pcap(bytes: &mut Vec<u8>, frames: &[CapturedFrame]) -> Result<(), PcapError> {
    let header = PcapHeader {
        snaplen: SNAP_LEN,
        datalink: DataLink::ETHERNET,
        endianness: Endianness::Little,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(bytes, header)?;
    for frame in frames {
        writer.write_packet(&PcapPacket::new(frame.at, wire_len(frame), &frame.bytes))?;
    }
    Ok(())
}

fn write_pcapng(bytes: &mut Vec<u8>, frames: &[CapturedFrame]) -> Result<(), PcapError> {
    let mut writer = PcapNgWriter::new(io::Write::by_ref(bytes))?;
    let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: SNAP_LEN, options: Vec::new() };
    writer.write_pcapng_block(interface)?;
    for frame in frames {
        writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: 0,
            timestamp: frame.at,
            original_len: wire_len(frame),
            data: (&frame.bytes).into(),
            options: Vec::new(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<CapturedFrame> {
        let frame = |at, len| CapturedFrame { at: Duration::from_micros(at), bytes: vec![7; len] };
        vec![frame(1_000_001, 60), frame(1_000_002, 61), frame(1_700_000_000_000_003, 1514)]
    }

    #[test]
    fn frames_come_back_from_both_forms() {
        for form in [Capture::Pcap, Capture::PcapNg] {
            assert_eq!(Capture::read(&form.write(&frames())).expect("readable"), frames(), "{form:?}");
        }
        assert_eq!(Capture::by_name("a.pcapng"), Capture::PcapNg);
        assert_eq!(Capture::by_name("a.pcap"), Capture::Pcap);
    }

    #[test]
    fn what_is_no_capture_of_ethernet_is_refused() {
        assert_eq!(
            Capture::read(&Capture::Pcap.write(&[])).expect_err("no frame").to_string(),
            "capture: it holds no frame; capture some"
        );
        let mut raw = Capture::Pcap.write(&frames());
        raw[20] = 101;
        assert_eq!(
            Capture::read(&raw).expect_err("no Ethernet").to_string(),
            "capture: its frames are of link type 101, not Ethernet (1); capture on an Ethernet device"
        );
        for bytes in [&b""[..], b"what", b"\x0a\x0d\x0d\x0awhat"] {
            let error = Capture::read(bytes).expect_err("no capture").to_string();
            assert_eq!(error, "capture: it begins neither as pcap nor as pcapng; write it with tcpdump or tshark");
        }
    }

    #[test]
    fn a_capture_that_is_cut_or_damaged_says_at_which_frame() {
        for form in [Capture::Pcap, Capture::PcapNg] {
            let whole = form.write(&frames());
            let error = Capture::read(&whole[..whole.len() - 7]).expect_err("cut").to_string();
            assert_eq!(error, "capture: it ends within frame 3; copy it whole, or leave the frame out", "{form:?}");
        }
        let mut damaged = Capture::Pcap.write(&frames());
        // The microseconds of the second frame: more than a second has.
        let second = 24 + 16 + 60;
        damaged[second + 4..second + 8].fill(0xff);
        let error = Capture::read(&damaged).expect_err("damaged").to_string();
        let expected = "capture: what stands where frame 2 should is none; write the file anew with tcpdump or tshark";
        assert_eq!(error, expected);
    }

    #[test]
    fn damaged_captures_give_errors_and_no_panic() {
        for form in [Capture::Pcap, Capture::PcapNg] {
            let whole = form.write(&frames());
            for end in 0..whole.len().min(400) {
                let _ = Capture::read(&whole[..end]);
            }
            for at in 0..whole.len().min(400) {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut damaged = whole.clone();
                    damaged[at] = value;
                    let _ = Capture::read(&damaged);
                }
            }
        }
    }
}
