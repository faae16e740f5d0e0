//! Constants in files of their own, beside the graph.

use embral_types::{Error, ErrorKind, Result};
use rten_onnx::onnx::{DataLocation, GraphProto, TensorProto};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

/// Where the values of a constant are.
#[derive(Debug)]
pub(crate) struct External {
    file: PathBuf,
    offset: u64,
    pub(crate) length: u64,
}

impl External {
    /// Of a constant of a graph in `folder`; none where its values are in the graph.
    ///
    /// # Errors
    /// Where its file is not there, is not below the folder, or ends before the values do.
    pub(crate) fn of(tensor: &TensorProto, folder: &Path) -> Result<Option<Self>> {
        if tensor.data_location != Some(DataLocation::EXTERNAL) {
            return Ok(None);
        }
        let value = |key: &str| {
            let entry = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
            entry.and_then(|entry| entry.value.as_deref())
        };
        let name = tensor.name.as_deref().unwrap_or_default();
        let wrong = |message: String| Error::new(ErrorKind::Malformed, message).in_tensor(name);
        let number = |key: &str| {
            let number = value(key).map(|text| text.parse::<u64>());
            number.transpose().map_err(|_| wrong(format!("{key}: expected a number, found {:?}", value(key))))
        };
        let location = value("location").unwrap_or_default();
        let below =
            Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !below {
            return Err(wrong(format!("expected values in a file below the graph's folder, found {location:?}")));
        }
        let file = folder.join(location);
        let size = fs::metadata(&file).map_err(|e| Error::io("cannot read", &file, e).in_tensor(name))?.len();
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(size.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > size) {
            let message = format!("expected {length} bytes of values from byte {offset} on, found a file of {size}");
            return Err(wrong(message).in_file(file));
        }
        Ok(Some(Self { file, offset, length }))
    }

    /// At most `most` bytes of each end.
    pub(crate) fn ends(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.file)?;
        let each = self.length.min(most);
        let mut bytes = Vec::new();
        for at in [self.offset, self.offset + self.length - each] {
            file.seek(SeekFrom::Start(at))?;
            (&mut file).take(each).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// Looks at every constant of a graph, and of the branches and loops in it.
pub(crate) fn check(graph: &GraphProto, folder: &Path) -> Result<()> {
    for tensor in &graph.initializer {
        External::of(tensor, folder)?;
    }
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        attribute.t.iter().try_for_each(|tensor| External::of(tensor, folder).map(|_| ()))?;
        attribute.g.iter().try_for_each(|inner| check(inner, folder))?;
    }
    Ok(())
}
