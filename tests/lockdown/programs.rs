//! What `compile` says of a filter's program is what the kernel says of it.

use crate::common::seccomp::ALLOW;
use crate::common::{isolated_as_both, sys};
use ringfence::lockdown::SeccompFilter;
use ringfence::{ErrorKind, Sandbox};
use rustix::thread::set_no_new_privs;
use std::sync::mpsc;

/// Codes that there are in classic BPF, not all of which seccomp(2) knows.
const CODES: &[u16] = &[
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x0d, 0x0e, 0x14, 0x15, 0x16, 0x1c, 0x1d,
    0x20, 0x24, 0x25, 0x28, 0x2c, 0x2d, 0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x4c, 0x4d,
    0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c, 0x74, 0x7c, 0x80, 0x81, 0x84, 0x87, 0x8c, 0x94, 0x9c, 0xa1,
    0xa4, 0xac, 0xb1,
];

/// Constants at which something changes.
const CONSTANTS: &[u32] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    15,
    16,
    31,
    32,
    33,
    60,
    61,
    63,
    64,
    4096,
    0x7fff_0000,
    0xffff_f000,
    u32::MAX,
];

/// The same numbers in each run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }

    fn instruction(&mut self) -> libc::sock_filter {
        let code = match self.below(64) {
            0 => u16::try_from(self.below(1 << 16)).unwrap(),
            _ => CODES[self.below(CODES.len())],
        };
        libc::sock_filter {
            code,
            jt: u8::try_from(self.below(3)).unwrap(),
            jf: u8::try_from(self.below(3)).unwrap(),
            k: CONSTANTS[self.below(CONSTANTS.len())],
        }
    }

    /// Mostly short, so that many are valid, and mostly with an end.
    fn program(&mut self) -> Vec<libc::sock_filter> {
        let length = 1 + self.below(5);
        let mut program: Vec<_> = (0..length).map(|_| self.instruction()).collect();
        program.extend((self.below(8) != 0).then_some(ALLOW));
        program
    }
}

/// The kernel checks a program that shall hold for all threads before it finds that one of them has another
/// filter, so it installs nothing.
fn kernel_takes(program: &[libc::sock_filter]) -> bool {
    match sys::seccomp_set_filter(program, libc::SECCOMP_FILTER_FLAG_TSYNC) {
        Ok(thread) => {
            assert!(thread > 0, "the filter has been installed");
            true
        }
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            false
        }
    }
}

fn compile_takes(program: &[libc::sock_filter]) -> bool {
    let filter = SeccompFilter::new(program.iter().copied());
    match Sandbox::new().seccomp(filter).command("true").compile() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.setter(), Some("seccomp"));
            error.to_string().contains("never permits")
        }
    }
}

#[test]
fn the_kernel_agrees_which_programs_are_valid() {
    isolated_as_both(|| {
        set_no_new_privs(true).unwrap();
        let (ready, is_ready) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            sys::seccomp_set_filter(&[ALLOW], 0).unwrap();
            ready.send(()).unwrap();
            ended.recv().unwrap_err();
        });
        is_ready.recv().unwrap();
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut taken = 0;
        let many = 20_000;
        for _ in 0..many {
            let program = numbers.program();
            let takes = kernel_takes(&program);
            assert_eq!(compile_takes(&program), takes, "{program:?}");
            taken += usize::from(takes);
        }
        // Neither all nor none.
        assert!((many / 20..many / 2).contains(&taken), "{taken}");
        let longest = vec![ALLOW; 4096];
        assert!(kernel_takes(&longest) && compile_takes(&longest));
        let longer = vec![ALLOW; 4097];
        assert!(!kernel_takes(&longer) && !compile_takes(&longer));
        drop(end);
        other.join().unwrap();
    });
}
