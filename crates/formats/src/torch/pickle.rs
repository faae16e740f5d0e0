//! The pickle of a state dict: strings, numbers, tuples, one ordered dictionary, and tensors that point into storages.

use super::{malformed, storage_class};
use embral_types::{Dtype, Error, ErrorKind, Result};
use std::{
    cell::RefCell,
    collections::{BTreeMap, btree_map::Entry},
    rc::Rc,
};

/// Opcodes of a program; a tensor takes about thirty.
const MOST_STEPS: usize = 1 << 20;
/// Bytes of a program; a tensor takes about two hundred.
const MOST_BYTES: usize = 8 << 20;
/// How deep tuples lie in tuples.
const DEEPEST: usize = 8;
/// Axes of a tensor.
const MOST_AXES: usize = 8;

/// A tensor of a state dict: where it lies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) dtype: Dtype,
    /// The name of its storage.
    pub(super) storage: String,
    /// The place of its first value in it.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
}

type Items = Rc<RefCell<Vec<(Value, Value)>>>;

#[derive(Clone)]
enum Value {
    Mark,
    /// `None`, a truth value, and what was made of names that do nothing here.
    Nothing,
    Int(i64),
    Text(Rc<str>),
    Name(Rc<str>),
    /// And how deep tuples lie in it.
    Tuple(Rc<[Value]>, usize),
    Dict(Items),
    Storage(Dtype, Rc<str>),
    Tensor(Rc<Found>),
}

/// Runs a program; the tensors of the dictionary that it ends with, by name.
pub(super) fn state_dict(program: &[u8]) -> Result<BTreeMap<String, Found>> {
    if program.len() > MOST_BYTES {
        return Err(refused(format!("expected at most {MOST_BYTES} bytes of pickle, found {}", program.len())));
    }
    let mut machine = Machine { rest: program, stack: Vec::new(), memo: Vec::new(), most_memo: program.len() };
    for _ in 0..MOST_STEPS {
        if let Some(end) = machine.step()? {
            let Value::Dict(items) = end else { return Err(refused("expected a dictionary of tensors at its end")) };
            let mut tensors = BTreeMap::new();
            for item in items.borrow().iter() {
                let (Value::Text(name), Value::Tensor(found)) = item else {
                    return Err(refused("expected names and tensors in the dictionary"));
                };
                match tensors.entry(name.to_string()) {
                    Entry::Vacant(place) => {
                        place.insert((**found).clone());
                    }
                    Entry::Occupied(twice) => return Err(refused(format!("{} comes twice", twice.key()))),
                }
            }
            return Ok(tensors);
        }
    }
    Err(refused(format!("expected an end within {MOST_STEPS} steps")))
}

fn refused(message: impl Into<String>) -> Error {
    let message = format!("no state dict of plain tensors: {}", message.into());
    Error::new(ErrorKind::Unsupported, message).hint("save it again, as safetensors")
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    memo: Vec<Option<Value>>,
    /// Places of the memo: no more than the program has bytes.
    most_memo: usize,
}

impl<'a> Machine<'a> {
    /// One opcode; the value at the end.
    fn step(&mut self) -> Result<Option<Value>> {
        let code = self.bytes(1)?[0];
        match code {
            0x80 => drop(self.bytes(1)?), // PROTO
            0x95 => drop(self.bytes(8)?), // FRAME
            b'(' => self.stack.push(Value::Mark),
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Nothing), // NONE, NEWTRUE, NEWFALSE
            b'K' => {
                let value = self.bytes(1)?[0];
                self.stack.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(value.into()));
            }
            0x8a => self.long()?,
            b'X' => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                self.text(length)?;
            }
            0x8c => {
                let length = self.bytes(1)?[0].into();
                self.text(length)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Name(format!("{module}.{name}").into()));
            }
            0x93 => {
                // STACK_GLOBAL
                let (Value::Text(name), Value::Text(module)) = (self.pop()?, self.pop()?) else {
                    return Err(refused("expected a name"));
                };
                self.stack.push(Value::Name(format!("{module}.{name}").into()));
            }
            b'}' => self.stack.push(Value::Dict(Items::default())),
            b')' => self.tuple(Vec::new())?,
            b't' => {
                let items = self.above_mark()?;
                self.tuple(items)?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or_else(empty)?;
                let items: Vec<Value> = self.stack.drain(from..).collect();
                self.tuple(items)?;
            }
            b'q' => {
                let at = self.bytes(1)?[0].into();
                self.keep(at)?;
            }
            b'r' => {
                let at = u32::from_le_bytes(self.array()?) as usize;
                self.keep(at)?;
            }
            0x94 => self.keep(self.memo.len())?, // MEMOIZE
            b'h' => {
                let at = self.bytes(1)?[0].into();
                self.recall(at)?;
            }
            b'j' => {
                let at = u32::from_le_bytes(self.array()?) as usize;
                self.recall(at)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.put(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.above_mark()?;
                if items.len() % 2 == 1 {
                    return Err(refused("expected a value for each key"));
                }
                let mut items = items.into_iter();
                let pairs = std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect();
                self.put(pairs)?;
            }
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            // BUILD: attributes of the dictionary, such as `_metadata`, say nothing about its tensors.
            b'b' => drop(self.pop()?),
            b'.' => return self.pop().map(Some),
            other => {
                return Err(refused(format!("its opcode {other:#04x} is not one that a state dict is written with")));
            }
        }
        Ok(None)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| malformed("the pickle is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.bytes(N)?.try_into().expect("as many bytes as were asked for"))
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().position(|&b| b == b'\n').ok_or_else(|| malformed("the pickle is cut off"))?;
        let line = &self.bytes(end + 1)?[..end];
        str::from_utf8(line).map_err(|_| malformed("a name in the pickle is no text"))
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let text = str::from_utf8(self.bytes(length)?).map_err(|_| malformed("a string in the pickle is no text"))?;
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    /// LONG1: an integer of up to 8 bytes.
    fn long(&mut self) -> Result<()> {
        let length = self.bytes(1)?[0].into();
        let bytes = self.bytes(length)?;
        if length > 8 {
            return Err(refused("expected numbers of at most 64 bits"));
        }
        let negative = bytes.last().is_some_and(|&b| b >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..length].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().ok_or_else(empty)
    }

    /// What lies above the last mark, which goes with it.
    fn above_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).ok_or_else(empty)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    /// To be freed, a tuple frees those in it, each within the one before.
    fn tuple(&mut self, items: Vec<Value>) -> Result<()> {
        let depth = |value: &Value| if let Value::Tuple(_, depth) = value { *depth } else { 0 };
        let depth = 1 + items.iter().map(depth).max().unwrap_or(0);
        if depth > DEEPEST {
            return Err(refused(format!("expected tuples in at most {DEEPEST} others")));
        }
        self.stack.push(Value::Tuple(items.into(), depth));
        Ok(())
    }

    fn keep(&mut self, at: usize) -> Result<()> {
        if at >= self.most_memo {
            return Err(refused(format!("expected at most {} values to be remembered", self.most_memo)));
        }
        let top = self.stack.last().cloned().ok_or_else(empty)?;
        if self.memo.len() <= at {
            self.memo.resize(at + 1, None);
        }
        self.memo[at] = Some(top);
        Ok(())
    }

    fn recall(&mut self, at: usize) -> Result<()> {
        let value = self.memo.get(at).cloned().flatten().ok_or_else(empty)?;
        self.stack.push(value);
        Ok(())
    }

    fn put(&mut self, mut pairs: Vec<(Value, Value)>) -> Result<()> {
        // What a dictionary in a dictionary holds, such as the versions of modules, is no tensor by name; and one within itself would
        // never be freed.
        for (_, value) in pairs.iter_mut().filter(|(_, value)| matches!(value, Value::Dict(_))) {
            *value = Value::Nothing;
        }
        let plain = |value: &Value| matches!(value, Value::Text(_) | Value::Tensor(_) | Value::Int(_) | Value::Nothing);
        if !pairs.iter().all(|(key, value)| plain(key) && plain(value)) {
            return Err(refused("expected names and tensors in the dictionary"));
        }
        match self.stack.last() {
            Some(Value::Dict(items)) => items.borrow_mut().extend(pairs),
            _ => return Err(refused("expected a dictionary to put values into")),
        }
        Ok(())
    }

    /// BINPERSID: `("storage", class, name, device, values)`.
    fn storage(&mut self) -> Result<()> {
        let Value::Tuple(parts, _) = self.pop()? else { return Err(refused("expected a storage")) };
        let [Value::Text(kind), Value::Name(class), Value::Text(name), Value::Text(_), Value::Int(_)] = &parts[..]
        else {
            return Err(refused("expected a storage"));
        };
        let dtype = class.strip_prefix("torch.").and_then(storage_class).filter(|_| &**kind == "storage");
        let dtype =
            dtype.ok_or_else(|| refused(format!("expected a storage of numbers that are known, found {class:?}")))?;
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !plain {
            return Err(refused(format!("expected the name of a storage, found {name:?}")));
        }
        self.stack.push(Value::Storage(dtype, Rc::clone(name)));
        Ok(())
    }

    /// REDUCE: the three names that a state dict calls.
    fn call(&mut self) -> Result<()> {
        let (Value::Tuple(arguments, _), Value::Name(name)) = (self.pop()?, self.pop()?) else {
            return Err(refused("expected a call of a name"));
        };
        let made = match (&*name, &arguments[..]) {
            ("collections.OrderedDict", []) => Value::Dict(Items::default()),
            (
                "torch._utils._rebuild_tensor_v2",
                [Value::Storage(dtype, storage), Value::Int(offset), shape, strides, ..],
            ) => {
                let (shape, strides) = (numbers(shape)?, numbers(strides)?);
                if !are_dense(&shape, &strides) {
                    return Err(refused("expected a tensor whose values lie in their order"));
                }
                let offset = usize::try_from(*offset).map_err(|_| refused("expected a place in a storage"))?;
                Value::Tensor(Rc::new(Found { dtype: *dtype, storage: storage.to_string(), offset, shape }))
            }
            ("torch._utils._rebuild_parameter", [Value::Tensor(tensor), ..]) => Value::Tensor(Rc::clone(tensor)),
            _ => return Err(refused(format!("it calls {name}"))),
        };
        self.stack.push(made);
        Ok(())
    }
}

fn empty() -> Error {
    malformed("the pickle takes a value that is not there")
}

fn numbers(value: &Value) -> Result<Vec<usize>> {
    let items = match value {
        Value::Tuple(items, _) if items.len() <= MOST_AXES => items,
        _ => return Err(refused("expected the sizes of a tensor")),
    };
    let size = |item: &Value| match item {
        Value::Int(n) => usize::try_from(*n).map_err(|_| refused("expected sizes from 0 on")),
        _ => Err(refused("expected the sizes of a tensor")),
    };
    items.iter().map(size).collect()
}

/// Whether the last axis is the innermost. The stride of an axis of one value is never used.
fn are_dense(shape: &[usize], strides: &[usize]) -> bool {
    let mut dense = Some(1usize);
    let same = |(&size, &stride): (&usize, &usize)| {
        let fits = size <= 1 || dense == Some(stride);
        dense = dense.and_then(|dense| dense.checked_mul(size.max(1)));
        fits
    };
    shape.len() == strides.len() && shape.iter().zip(strides).rev().all(same)
}
