//! Classic BPF as seccomp(2) takes it: whether the kernel would take a program, and what it may answer.
//!
//! Nothing here is run in earnest. What a program finds in its data may be unknown; then all ways are taken
//! that it might take. Jumps only lead forward, so each instruction is looked at once.

use std::fmt;

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
pub(super) const MAX: usize = 4096;

/// Words of memory that a program has (`BPF_MEMWORDS`).
const MEMORY: usize = 16;

/// Words of `struct seccomp_data`.
const DATA: usize = 16;
const DATA_BYTES: u32 = 64;

/// `AUDIT_ARCH_*` of this architecture, if it is known here.
pub(super) const ARCH: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// One instruction of a filter: `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "these are the names of the kernel")]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A number, if it is known.
pub(super) type Value = Option<u32>;

/// `struct seccomp_data`, as a program loads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data(pub(super) [Value; DATA]);

impl Data {
    /// A system call of this architecture, with any arguments, from anywhere.
    pub(super) fn of_call(number: u32) -> Self {
        let mut words = [None; DATA];
        let [first, second, ..] = &mut words;
        (*first, *second) = (Some(number), ARCH);
        Self(words)
    }
}

/// Why the kernel would not take a program, and because of which instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    at: usize,
    why: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: {}", self.at, self.why)
    }
}

/// The second operand.
#[derive(Clone, Copy, Debug)]
enum Operand {
    Constant(u32),
    Index,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Data(usize),
    Memory(usize),
    Constant(u32),
}

#[derive(Clone, Copy, Debug)]
enum Register {
    Accumulator,
    Index,
}

#[derive(Clone, Copy, Debug)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Or,
    And,
    ShiftLeft,
    ShiftRight,
    Xor,
}

#[derive(Clone, Copy, Debug)]
enum Condition {
    Equal,
    Greater,
    NotLess,
    AnyBit,
}

/// An instruction that the kernel knows.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Load(Register, Source),
    Store(Register, usize),
    Compute(Arithmetic, Operand),
    Negate,
    /// Skips as many.
    Jump(usize),
    /// Skips the first number if the condition holds, the second if not.
    Branch(Condition, Operand, [usize; 2]),
    /// From the first register to the other one.
    Move(Register),
    Return(u32),
    ReturnAccumulator,
}

impl Operation {
    fn decode(Instruction { code, jt, jf, k }: Instruction) -> Result<Self, &'static str> {
        use Register::{Accumulator, Index};
        let operand = match code & 0x08 {
            0 => Operand::Constant(k),
            _ => Operand::Index,
        };
        let memory = || match k as usize {
            cell @ 0..MEMORY => Ok(cell),
            _ => Err("there are 16 words of memory"),
        };
        Ok(match code {
            0x20 if k < DATA_BYTES && k.is_multiple_of(4) => {
                Self::Load(Accumulator, Source::Data(k as usize / 4))
            }
            0x20 => return Err("no aligned word of struct seccomp_data"),
            0x00 => Self::Load(Accumulator, Source::Constant(k)),
            0x01 => Self::Load(Index, Source::Constant(k)),
            0x80 => Self::Load(Accumulator, Source::Constant(DATA_BYTES)),
            0x81 => Self::Load(Index, Source::Constant(DATA_BYTES)),
            0x60 => Self::Load(Accumulator, Source::Memory(memory()?)),
            0x61 => Self::Load(Index, Source::Memory(memory()?)),
            0x02 => Self::Store(Accumulator, memory()?),
            0x03 => Self::Store(Index, memory()?),
            0x07 => Self::Move(Accumulator),
            0x87 => Self::Move(Index),
            0x84 => Self::Negate,
            0x05 => Self::Jump(k as usize),
            0x06 => Self::Return(k),
            0x16 => Self::ReturnAccumulator,
            0x34 if k == 0 => return Err("divides by zero"),
            0x64 | 0x74 if k >= u32::BITS => return Err("shifts by more than a word has"),
            0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => {
                let condition = match code & 0xf0 {
                    0x10 => Condition::Equal,
                    0x20 => Condition::Greater,
                    0x30 => Condition::NotLess,
                    _ => Condition::AnyBit,
                };
                Self::Branch(condition, operand, [jt.into(), jf.into()])
            }
            _ => Self::Compute(arithmetic(code)?, operand),
        })
    }
}

fn arithmetic(code: u16) -> Result<Arithmetic, &'static str> {
    Ok(match code & !0x08 {
        0x04 => Arithmetic::Add,
        0x14 => Arithmetic::Subtract,
        0x24 => Arithmetic::Multiply,
        0x34 => Arithmetic::Divide,
        0x44 => Arithmetic::Or,
        0x54 => Arithmetic::And,
        0x64 => Arithmetic::ShiftLeft,
        0x74 => Arithmetic::ShiftRight,
        0xa4 => Arithmetic::Xor,
        _ => return Err("not one that seccomp(2) knows"),
    })
}

impl Arithmetic {
    /// `None` for a division by zero, at which a program ends.
    fn of(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Subtract => a.wrapping_sub(b),
            Self::Multiply => a.wrapping_mul(b),
            Self::Divide => return a.checked_div(b),
            Self::Or => a | b,
            Self::And => a & b,
            Self::ShiftLeft => a.wrapping_shl(b),
            Self::ShiftRight => a.wrapping_shr(b),
            Self::Xor => a ^ b,
        })
    }
}

impl Condition {
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Greater => a > b,
            Self::NotLess => a >= b,
            Self::AnyBit => a & b != 0,
        }
    }
}

/// What a program knows at one of its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    accumulator: Value,
    index: Value,
    memory: [Value; MEMORY],
}

impl State {
    const FIRST: Self = Self {
        accumulator: Some(0),
        index: Some(0),
        memory: [None; MEMORY],
    };

    /// What holds whichever of the two is the case.
    fn or(self, other: Self) -> Self {
        let either = |a: Value, b: Value| a.filter(|_| a == b);
        let mut memory = self.memory;
        for (cell, other) in memory.iter_mut().zip(other.memory) {
            *cell = either(*cell, other);
        }
        Self {
            accumulator: either(self.accumulator, other.accumulator),
            index: either(self.index, other.index),
            memory,
        }
    }

    fn register(&mut self, register: Register) -> &mut Value {
        match register {
            Register::Accumulator => &mut self.accumulator,
            Register::Index => &mut self.index,
        }
    }

    fn operand(&self, operand: Operand) -> Value {
        match operand {
            Operand::Constant(k) => Some(k),
            Operand::Index => self.index,
        }
    }

    fn load(&self, source: Source, data: &Data) -> Value {
        match source {
            Source::Constant(k) => Some(k),
            Source::Data(word) => data.0.get(word).copied().flatten(),
            Source::Memory(cell) => self.memory.get(cell).copied().flatten(),
        }
    }
}

/// A program that the kernel takes.
#[derive(Debug)]
pub(super) struct Program(Vec<Operation>);

impl Program {
    pub(super) fn new(instructions: &[Instruction]) -> Result<Self, Refused> {
        let refused = |at| move |why| Refused { at, why };
        if instructions.len() > MAX {
            return Err(refused(MAX)("the kernel takes at most 4096"));
        }
        let mut operations = Vec::with_capacity(instructions.len());
        for (at, instruction) in instructions.iter().enumerate() {
            operations.push(Operation::decode(*instruction).map_err(refused(at))?);
        }
        let program = Self(operations);
        program.check_jumps()?;
        let last = instructions.len().saturating_sub(1);
        match program.0.last() {
            Some(Operation::Return(_) | Operation::ReturnAccumulator) => {}
            Some(_) => return Err(refused(last)("the last one is not a return")),
            None => return Err(refused(0)("there is none")),
        }
        program.check_memory()?;
        Ok(program)
    }

    fn check_jumps(&self) -> Result<(), Refused> {
        for (at, operation) in self.0.iter().enumerate() {
            let behind = self.0.len().saturating_sub(at).saturating_sub(1);
            let skips = match *operation {
                Operation::Jump(over) => [over, over],
                Operation::Branch(_, _, skips) => skips,
                _ => continue,
            };
            if skips.iter().any(|&over| over >= behind) {
                let why = "jumps behind the end";
                return Err(Refused { at, why });
            }
        }
        Ok(())
    }

    /// On no way a word of memory is read that has not been written, as the kernel looks for it: also where
    /// no way leads.
    fn check_memory(&self) -> Result<(), Refused> {
        const ALL: u16 = !0;
        let mut at_targets = vec![ALL; self.0.len()];
        let mut written = 0;
        for (at, operation) in self.0.iter().enumerate() {
            written &= at_targets.get(at).copied().unwrap_or(ALL);
            let skips = match *operation {
                Operation::Store(_, cell) => {
                    written |= 1 << cell;
                    continue;
                }
                Operation::Load(_, Source::Memory(cell)) if written & 1 << cell == 0 => {
                    let why = "reads memory that has not been written";
                    return Err(Refused { at, why });
                }
                Operation::Jump(over) => [over, over],
                Operation::Branch(_, _, skips) => skips,
                _ => continue,
            };
            for over in skips {
                if let Some(target) = at_targets.get_mut(at + 1 + over) {
                    *target &= written;
                }
            }
            written = ALL;
        }
        Ok(())
    }

    /// All that the program may answer to such a call, each as far as it is known.
    pub(super) fn answers(&self, data: &Data) -> Vec<Value> {
        let mut run = Run {
            states: vec![None; self.0.len()],
            answers: Vec::new(),
        };
        run.reach(0, State::FIRST);
        for (at, operation) in self.0.iter().enumerate() {
            if let Some(state) = run.states.get_mut(at).and_then(Option::take) {
                run.step(at, *operation, state, data);
            }
        }
        run.answers
    }
}

/// A look at all ways through a program.
struct Run {
    /// What is known at each instruction that a way leads to.
    states: Vec<Option<State>>,
    answers: Vec<Value>,
}

impl Run {
    fn reach(&mut self, at: usize, state: State) {
        if let Some(there) = self.states.get_mut(at) {
            *there = Some(there.map_or(state, |there| there.or(state)));
        }
    }

    fn answer(&mut self, value: Value) {
        if !self.answers.contains(&value) {
            self.answers.push(value);
        }
    }

    fn step(&mut self, at: usize, operation: Operation, mut state: State, data: &Data) {
        let next = at + 1;
        match operation {
            Operation::Load(register, source) => {
                *state.register(register) = state.load(source, data);
            }
            Operation::Store(register, cell) => {
                let value = *state.register(register);
                if let Some(cell) = state.memory.get_mut(cell) {
                    *cell = value;
                }
            }
            Operation::Compute(how, operand) => {
                let operand = state.operand(operand);
                if matches!(how, Arithmetic::Divide) && operand.is_none_or(|by| by == 0) {
                    self.answer(Some(0));
                    if operand.is_some() {
                        return;
                    }
                }
                let both = state.accumulator.zip(operand);
                state.accumulator = both.and_then(|(a, b)| how.of(a, b));
            }
            Operation::Negate => {
                state.accumulator = state.accumulator.map(u32::wrapping_neg);
            }
            Operation::Move(Register::Accumulator) => state.index = state.accumulator,
            Operation::Move(Register::Index) => state.accumulator = state.index,
            Operation::Jump(over) => return self.reach(next + over, state),
            Operation::Branch(condition, operand, [then, otherwise]) => {
                let both = state.accumulator.zip(state.operand(operand));
                let holds = both.map(|(a, b)| condition.holds(a, b));
                if holds != Some(false) {
                    self.reach(next + then, state);
                }
                if holds != Some(true) {
                    self.reach(next + otherwise, state);
                }
                return;
            }
            Operation::Return(answer) => return self.answer(Some(answer)),
            Operation::ReturnAccumulator => return self.answer(state.accumulator),
        }
        self.reach(next, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: Instruction = of(0x06, 0, 0, 0x7fff_0000);
    const REFUSE: Instruction = of(0x06, 0, 0, 0x0005_0001);

    const fn of(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    fn answers(program: &[Instruction], data: &Data) -> Vec<Value> {
        let program = Program::new(program).expect("the kernel takes it");
        program.answers(data)
    }

    fn why(program: &[Instruction]) -> String {
        Program::new(program).expect_err("is refused").to_string()
    }

    #[test]
    fn what_is_known_decides() {
        // The number 7 is allowed.
        let program = [of(0x20, 0, 0, 0), of(0x15, 0, 1, 7), ALLOW, REFUSE];
        let allowed = Some(ALLOW.k);
        let refused = Some(REFUSE.k);
        assert_eq!(answers(&program, &Data::of_call(7)), [allowed]);
        assert_eq!(answers(&program, &Data::of_call(8)), [refused]);
        let unknown = Data([None; DATA]);
        assert_eq!(answers(&program, &unknown), [allowed, refused]);
    }

    #[test]
    fn ways_that_meet_know_what_both_know() {
        // The first argument decides what is stored in word 0; in word 1 it is the same on both ways.
        let stores = |last| {
            [
                of(0x00, 0, 0, 5),
                of(0x02, 0, 0, 1),
                of(0x20, 0, 0, 16),
                of(0x15, 1, 0, 3),
                of(0x00, 0, 0, 9),
                of(0x02, 0, 0, 0),
                of(0x60, 0, 0, last),
                of(0x16, 0, 0, 0),
            ]
        };
        assert_eq!(answers(&stores(0), &Data::of_call(0)), [None]);
        assert_eq!(answers(&stores(1), &Data::of_call(0)), [Some(5)]);
    }

    #[test]
    fn arithmetic_is_that_of_the_kernel() {
        let result = |code, a, b| {
            let program = [
                of(0x01, 0, 0, b),
                of(0x00, 0, 0, a),
                of(code, 0, 0, 0),
                of(0x16, 0, 0, 0),
            ];
            answers(&program, &Data::of_call(0))
        };
        for (code, a, b, expected) in [
            (0x0c, u32::MAX, 2, 1),
            (0x1c, 1, 2, u32::MAX),
            (0x2c, 1 << 31, 2, 0),
            (0x3c, 7, 2, 3),
            (0x3c, 7, 0, 0),
            (0x4c, 5, 2, 7),
            (0x5c, 7, 2, 2),
            (0x6c, 1, 33, 2),
            (0x7c, 4, 1, 2),
            (0x84, 1, 0, u32::MAX),
            (0xac, 7, 2, 5),
            (0x87, 7, 2, 2),
        ] {
            assert_eq!(result(code, a, b), [Some(expected)], "{code:#x} {a} {b}");
        }
    }

    #[test]
    fn a_divisor_that_is_not_known_may_be_zero() {
        let program = [
            of(0x20, 0, 0, 16),
            of(0x07, 0, 0, 0),
            of(0x3c, 0, 0, 0),
            ALLOW,
        ];
        let both = [Some(0), Some(ALLOW.k)];
        assert_eq!(answers(&program, &Data::of_call(0)), both);
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        assert_eq!(why(&[]), "instruction 0: there is none");
        let endless = vec![of(0x00, 0, 0, 0); MAX + 1];
        assert_eq!(
            why(&endless),
            "instruction 4096: the kernel takes at most 4096"
        );
        assert_eq!(
            why(&endless[1..]),
            "instruction 4095: the last one is not a return"
        );
        for (broken, expected) in [
            (of(0xffff, 0, 0, 0), "not one that seccomp(2) knows"),
            // The remainder, which sockets know.
            (of(0x94, 0, 0, 3), "not one that seccomp(2) knows"),
            (of(0x28, 0, 0, 0), "not one that seccomp(2) knows"),
            (of(0x20, 0, 0, 2), "no aligned word of struct seccomp_data"),
            (of(0x20, 0, 0, 64), "no aligned word of struct seccomp_data"),
            (of(0x02, 0, 0, 16), "there are 16 words of memory"),
            (of(0x60, 0, 0, 0), "reads memory that has not been written"),
            (of(0x34, 0, 0, 0), "divides by zero"),
            (of(0x64, 0, 0, 32), "shifts by more than a word has"),
            (of(0x05, 0, 0, 1), "jumps behind the end"),
            (of(0x05, 0, 0, u32::MAX), "jumps behind the end"),
            (of(0x15, 0, 1, 0), "jumps behind the end"),
        ] {
            assert_eq!(why(&[broken, ALLOW]), format!("instruction 0: {expected}"));
        }
        // Written on one way of two.
        let program = [
            of(0x15, 0, 1, 0),
            of(0x02, 0, 0, 3),
            of(0x60, 0, 0, 3),
            ALLOW,
        ];
        assert_eq!(
            why(&program),
            "instruction 2: reads memory that has not been written"
        );
    }
}
