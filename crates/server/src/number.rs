//! Numbers with units.

/// Bytes out of `64MiB`, `8GiB`, `500MB`, `1000`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * unit as f64;
    (0.0..1e18).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_a_thousand_and_of_1024() {
        let all = ["1000", "1.5KiB", "64 MiB", "2GB", "8g"].map(bytes);
        assert_eq!(all, [Some(1000), Some(1536), Some(64 << 20), Some(2_000_000_000), Some(8 << 30)]);
        for bad in ["", "MiB", "1TiBs", "-1", "1e9GiB", "nan"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
