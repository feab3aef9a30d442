//! The program that is spawned: as little exec and exit as there can be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// `exit_group(0)`.
#[cfg(target_arch = "x86_64")]
const CODE: [u8; 9] = [
    0xb8, 0xe7, 0, 0, 0, // mov eax, 231
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];
/// `pause()`.
#[cfg(target_arch = "x86_64")]
const PAUSE: [u8; 7] = [
    0xb8, 34, 0, 0, 0, // mov eax, 34
    0x0f, 0x05, // syscall
];
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

#[cfg(target_arch = "aarch64")]
const CODE: [u8; 12] = [
    0xc8, 0x0b, 0x80, 0xd2, // mov x8, #94
    0x00, 0x00, 0x80, 0xd2, // mov x0, #0
    0x01, 0x00, 0x00, 0xd4, // svc #0
];
/// `ppoll(NULL, 0, NULL, NULL)`.
#[cfg(target_arch = "aarch64")]
const PAUSE: [u8; 24] = [
    0x28, 0x09, 0x80, 0xd2, // mov x8, #73
    0x00, 0x00, 0x80, 0xd2, // mov x0, #0
    0x01, 0x00, 0x80, 0xd2, // mov x1, #0
    0x02, 0x00, 0x80, 0xd2, // mov x2, #0
    0x03, 0x00, 0x80, 0xd2, // mov x3, #0
    0x01, 0x00, 0x00, 0xd4, // svc #0
];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

const ELF_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
const CODE_OFFSET: u64 = ELF_HEADER as u64 + PROGRAM_HEADER as u64;
const BASE: u64 = 0x40_0000;
/// The largest page size among the supported kernels.
const ALIGN: u64 = 0x1_0000;

/// Writes a static executable that only exits with 0.
pub(crate) fn tiny_program(dir: &Path) -> PathBuf {
    write(dir.join("tiny"), &CODE)
}

/// Writes a static executable that only waits until it is killed.
#[allow(dead_code, reason = "for the bench of namespaces")]
pub(crate) fn waiting_program(dir: &Path) -> PathBuf {
    write(dir.join("waiting"), &PAUSE)
}

fn write(path: PathBuf, code: &[u8]) -> PathBuf {
    fs::write(&path, image(code)).expect("the program can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod of our own file");
    path
}

fn image(code: &[u8]) -> Vec<u8> {
    const ET_EXEC: u16 = 2;
    const PT_LOAD: u32 = 1;
    const PF_R_X: u32 = 4 | 1;
    let size = CODE_OFFSET + code.len() as u64;

    // Class 64, little endian, version 1, System V.
    let mut image = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |bytes: &[u8]| image.extend_from_slice(bytes);
    put(&ET_EXEC.to_le_bytes());
    put(&MACHINE.to_le_bytes());
    put(&1_u32.to_le_bytes()); // e_version
    put(&(BASE + CODE_OFFSET).to_le_bytes()); // e_entry
    put(&u64::from(ELF_HEADER).to_le_bytes()); // e_phoff
    put(&0_u64.to_le_bytes()); // e_shoff
    put(&0_u32.to_le_bytes()); // e_flags
    put(&ELF_HEADER.to_le_bytes());
    put(&PROGRAM_HEADER.to_le_bytes());
    put(&1_u16.to_le_bytes()); // e_phnum
    put(&[0; 6]); // no sections

    put(&PT_LOAD.to_le_bytes());
    put(&PF_R_X.to_le_bytes());
    put(&0_u64.to_le_bytes()); // p_offset
    put(&BASE.to_le_bytes()); // p_vaddr
    put(&BASE.to_le_bytes()); // p_paddr
    put(&size.to_le_bytes()); // p_filesz
    put(&size.to_le_bytes()); // p_memsz
    put(&ALIGN.to_le_bytes());

    put(code);
    image
}
