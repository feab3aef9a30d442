//! `cargo +nightly fuzz run bpf`: no bytes make the look at a filter panic or hang, and what a program answers to one
//! call is among what it may answer when less of the call is known.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../src/lockdown/bpf.rs"]
mod bpf;

use bpf::{Data, Instruction, Program};

fuzz_target!(|input: (u32, [u32; 16], Vec<(u16, u8, u8, u32)>)| {
    let (number, words, instructions) = input;
    let instructions: Vec<_> = instructions
        .into_iter()
        .map(|(code, jt, jf, k)| Instruction { code, jt, jf, k })
        .collect();
    let Ok(program) = Program::new(&instructions) else { return };
    let any = Data::of_call(number);
    let mut one = any;
    for (word, value) in one.0.iter_mut().zip(words) {
        *word = word.or(Some(value));
    }
    let (may, does) = (program.answers(&any), program.answers(&one));
    assert!(matches!(does[..], [Some(_)]));
    assert!(may.contains(&None) || may.contains(&does[0]));
});
