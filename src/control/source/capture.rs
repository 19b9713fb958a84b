//! Frames of a capture file: pcap or pcapng, Ethernet.

use std::io::Cursor;

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::SourceError;
use crate::limits::{CAPTURE_FRAMES_MAX, FRAME_LEN_MAX, FRAME_LEN_MIN};

/// First bytes of a pcapng file: the type of its section header block.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Frames of a capture file, all of lengths that the wire takes; at least one.
#[derive(Clone, Debug)]
pub struct Capture {
    frames: Vec<Box<[u8]>>,
}

impl Capture {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`SourceError::Capture`], [`SourceError::FrameLen`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SourceError> {
        let mut frames = Frames::default();
        if bytes.starts_with(&PCAPNG_MAGIC) {
            pcapng(bytes, &mut frames)?
        } else {
            pcap(bytes, &mut frames)?
        }
        if frames.0.is_empty() {
            return Err(refuse("it holds no frame"));
        }
        Ok(Self { frames: frames.0 })
    }

    /// The frames in the file's order.
    #[must_use]
    pub fn frames(&self) -> &[Box<[u8]>] {
        &self.frames
    }
}

#[derive(Default)]
struct Frames(Vec<Box<[u8]>>);

impl Frames {
    fn push(&mut self, frame: &[u8]) -> Result<(), SourceError> {
        let number = self.0.len() + 1;
        let (min, max) = (FRAME_LEN_MIN as usize, FRAME_LEN_MAX as usize);
        if !(min..=max).contains(&frame.len()) {
            return Err(SourceError::FrameLen { number, len: frame.len(), min, max });
        }
        if number > CAPTURE_FRAMES_MAX {
            return Err(refuse(&format!("it holds more than {CAPTURE_FRAMES_MAX} frames")));
        }
        self.0.push(frame.into());
        Ok(())
    }
}

fn refuse(what: &str) -> SourceError {
    SourceError::Capture { what: what.to_owned() }
}

fn ethernet(link: DataLink) -> Result<(), SourceError> {
    if link == DataLink::ETHERNET {
        return Ok(());
    }
    Err(refuse(&format!("its link type is {}, not Ethernet", u32::from(link))))
}

fn pcap(bytes: &[u8], frames: &mut Frames) -> Result<(), SourceError> {
    let wrong = |error: pcap_file::PcapError| refuse(&error.to_string());
    let mut reader = PcapReader::new(Cursor::new(bytes)).map_err(wrong)?;
    ethernet(reader.header().datalink)?;
    while let Some(packet) = reader.next_packet() {
        frames.push(&packet.map_err(wrong)?.data)?;
    }
    Ok(())
}

fn pcapng(bytes: &[u8], frames: &mut Frames) -> Result<(), SourceError> {
    let wrong = |error: pcap_file::PcapError| refuse(&error.to_string());
    let mut reader = PcapNgReader::new(Cursor::new(bytes)).map_err(wrong)?;
    // The link types of the section's interfaces, by their numbers.
    let mut links: Vec<DataLink> = Vec::new();
    while let Some(block) = reader.next_block() {
        let (interface, data) = match block.map_err(wrong)? {
            Block::SectionHeader(_) => {
                links.clear();
                continue;
            }
            Block::InterfaceDescription(interface) => {
                links.push(interface.linktype);
                continue;
            }
            Block::EnhancedPacket(packet) => (packet.interface_id, packet.data),
            Block::Packet(packet) => (u32::from(packet.interface_id), packet.data),
            Block::SimplePacket(packet) => (0, packet.data),
            Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::Unknown(_) => continue,
        };
        let link = links.get(interface as usize);
        ethernet(*link.ok_or_else(|| refuse("a frame names an interface that is not described"))?)?;
        frames.push(&data)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcap_bytes(link: u32, frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(0xa1b2_c3d4_u32.to_le_bytes());
        bytes.extend([2, 0, 4, 0]);
        bytes.extend([0; 8]);
        bytes.extend(65_535_u32.to_le_bytes());
        bytes.extend(link.to_le_bytes());
        for frame in frames {
            let len = u32::try_from(frame.len()).expect("short").to_le_bytes();
            bytes.extend([[0; 4], [0; 4], len, len].concat());
            bytes.extend(*frame);
        }
        bytes
    }

    fn pcapng_block(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = u32::try_from(body.len() + 12).expect("short").to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &body, &len].concat()
    }

    fn pcapng_bytes(link: u16, frames: &[&[u8]]) -> Vec<u8> {
        let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let interface = [&link.to_le_bytes()[..], &[0; 2], &[0; 4]].concat();
        let mut bytes = [pcapng_block(0x0a0d_0d0a, &section), pcapng_block(1, &interface)].concat();
        for frame in frames {
            let len = u32::try_from(frame.len()).expect("short").to_le_bytes();
            bytes.extend(pcapng_block(6, &[&[0; 12][..], &len, &len, frame].concat()));
        }
        bytes
    }

    #[test]
    fn both_formats_give_their_frames_in_order() {
        let frames: [&[u8]; 2] = [&[1; 60], &[2; 99]];
        for bytes in [pcap_bytes(1, &frames), pcapng_bytes(1, &frames)] {
            let capture = Capture::parse(&bytes).expect("a capture");
            let got: Vec<&[u8]> = capture.frames().iter().map(|frame| &**frame).collect();
            assert_eq!(got, frames);
        }
    }

    #[test]
    fn what_is_no_capture_of_frames_is_refused_with_its_reason() {
        let refused = |bytes: &[u8]| Capture::parse(bytes).expect_err("no capture").to_string();
        let form = "send a pcap or pcapng file of Ethernet frames";
        assert_eq!(refused(&pcap_bytes(1, &[])), format!("capture: it holds no frame; {form}"));
        for bytes in [pcap_bytes(113, &[&[1; 60]]), pcapng_bytes(113, &[&[1; 60]])] {
            assert_eq!(refused(&bytes), format!("capture: its link type is 113, not Ethernet; {form}"));
        }
        assert_eq!(
            refused(&pcap_bytes(1, &[&[1; 60], &[1; 9]])),
            "capture frame 2: 9 bytes, but the wire takes 14 to 1792; cut the frame out of the file"
        );
        for bytes in [&b""[..], b"hello", &[0; 24], &PCAPNG_MAGIC] {
            assert!(refused(bytes).starts_with("capture: "));
        }
    }

    #[test]
    fn no_cut_and_no_flipped_byte_makes_reading_panic() {
        for whole in [pcap_bytes(1, &[&[1; 60], &[2; 61]]), pcapng_bytes(1, &[&[1; 60], &[2; 61]])] {
            for at in 0..whole.len() {
                let _ = Capture::parse(&whole[..at]);
                for value in [0, 0x7f, 0xff] {
                    let mut bytes = whole.clone();
                    bytes[at] = value;
                    let _ = Capture::parse(&bytes);
                }
            }
        }
    }
}
