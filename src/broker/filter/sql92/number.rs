//! Numbers in properties, read as Java reads them.

/// The code points of the digit zero of every script that `Character#digit` knows and one UTF-16
/// unit holds; nine more digits follow each.
const ZEROS: [u32; 37] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6,
    0x0D66, 0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80,
    0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0,
    0xFF10,
];

/// Source: Integer#valueOf.
pub fn int(text: &[u8]) -> Option<i32> {
    long(text).and_then(|value| i32::try_from(value).ok())
}

/// Source: Long#valueOf: a sign, digits of any script, nothing else.
pub fn long(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for digit in digits.chars() {
        let digit = i64::from(digit_value(digit)?);
        value = value.checked_mul(10)?;
        value = if is_negative { value.checked_sub(digit)? } else { value.checked_add(digit)? };
    }
    Some(value)
}

fn digit_value(digit: char) -> Option<u32> {
    if digit.is_ascii() {
        return digit.to_digit(10);
    }
    let code = digit as u32;
    let after = ZEROS.partition_point(|zero| *zero <= code);
    let value = code - ZEROS[after.checked_sub(1)?];
    (value < 10).then_some(value)
}

/// Source: Double#valueOf: blanks around it, `NaN`, `Infinity`, hexadecimal digits and the suffixes
/// f and d are allowed.
pub fn double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.trim_matches(|c| c <= ' ');
    let (is_negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match unsigned {
        "NaN" => return Some(f64::NAN),
        "Infinity" => f64::INFINITY,
        _ if unsigned.get(..2).is_some_and(|x| x.eq_ignore_ascii_case("0x")) => {
            hexadecimal(without_suffix(&unsigned[2..]))?
        }
        _ => decimal(without_suffix(unsigned))?,
    };
    Some(if is_negative { -value } else { value })
}

fn without_suffix(text: &str) -> &str {
    text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text)
}

/// Digits with a point, and an exponent.
fn decimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(part) || whole.len() + part.len() == 0 {
        return None;
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !all_digits(digits) {
            return None;
        }
    }
    text.parse().ok()
}

/// Hexadecimal digits with a point, and a binary exponent, which must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !all_digits(whole) || !all_digits(part) || whole.len() + part.len() == 0 {
        return None;
    }
    let is_small = exponent.starts_with('-');
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i32>().unwrap_or(i32::MAX).min(1 << 20);
    let mut power = i64::from(if is_small { -size } else { size });
    power -= 4 * part.len() as i64;
    // The first 60 bits, with the lowest set when a later one is.
    let mut bits: u64 = 0;
    for digit in whole.bytes().chain(part.bytes()) {
        let digit = u64::from((digit as char).to_digit(16)?);
        if bits >> 60 == 0 {
            bits = bits << 4 | digit;
        } else {
            bits |= u64::from(digit != 0);
            power += 4;
        }
    }
    Some(scale(bits, power))
}

/// `bits * 2^power`, rounded once, to even.
fn scale(bits: u64, power: i64) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let width = 64 - i64::from(bits.leading_zeros());
    // The exponent of the highest bit, and how many bits a double has there.
    let top = power + width - 1;
    if top > 1023 {
        return f64::INFINITY;
    }
    let kept = if top < -1022 { 53 - (-1022 - top) } else { 53 };
    let dropped = width - kept;
    if kept < 0 {
        return 0.0;
    }
    let mut mantissa = bits;
    let mut exponent = power;
    if dropped > 0 {
        let whole = bits.checked_shr(dropped as u32).unwrap_or(0);
        let half = 1u64 << (dropped - 1);
        let rest = bits & (half | (half - 1));
        let up = rest > half || (rest == half && whole & 1 == 1);
        mantissa = whole + u64::from(up);
        exponent += dropped;
    }
    // The mantissa is exact, and so is each of the two steps.
    let half_way = exponent / 2;
    mantissa as f64 * power_of_two(half_way) * power_of_two(exponent - half_way)
}

/// `exponent` is far within the range of normal numbers.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_javas() {
        for (text, value) in [("5", 5), ("+5", 5), ("-0", 0), ("007", 7), ("-2147483648", i32::MIN)]
        {
            assert_eq!(int(text.as_bytes()), Some(value), "{text}");
        }
        assert_eq!(int("\u{661}\u{ff12}".as_bytes()), Some(12));
        for text in ["", "-", "+", " 5", "5 ", "5.0", "5l", "--5", "2147483648", "\u{1d7ce}", "0x1"]
        {
            assert_eq!(int(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(int(b"\xff"), None);
        assert_eq!(long(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(long(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(long(b"9223372036854775808"), None);
    }

    #[test]
    fn doubles_are_javas() {
        for (text, value) in [
            ("5", 5.0),
            (" \t5.\n", 5.0),
            (".5e1", 5.0),
            ("5d", 5.0),
            ("5e0F", 5.0),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e999", f64::INFINITY),
            ("0x1p4", 16.0),
            ("0x.8p1", 1.0),
            ("0X1.8P-1d", 0.75),
            ("0x1p-1074", 4.9e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 4.9e-324),
            ("0x1p99999999999", f64::INFINITY),
            ("0x0p99999999999", 0.0),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("0x1.fffffffffffff8p1023", f64::INFINITY),
            ("0x1.00000000000008p0", 1.0),
            ("0x1.000000000000080000000001p0", 1.0 + f64::EPSILON),
        ] {
            assert_eq!(double(text.as_bytes()), Some(value), "{text:?}");
        }
        assert!(double(b"-NaN").unwrap().is_nan());
        let none = [
            "", ".", "e5", "1e", "1e+", "5l", "inf", "nan", "0x1", "0xp1", "0x.p1", "1_0", "5 5",
            "5ff",
        ];
        for text in none {
            assert_eq!(double(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn hexadecimal_doubles_agree_with_decimal_ones() {
        for bits in [1u64, 3, 0x001f_ffff_ffff_ffff, 0x0010_0000_0000_0001, 0x7fef_ffff_ffff_fffe] {
            let value = f64::from_bits(bits);
            let (mantissa, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) as i64);
            let text = match exponent {
                0 => format!("0x0.{mantissa:013x}p-1022"),
                _ => format!("0x1.{mantissa:013x}p{}", exponent - 1023),
            };
            assert_eq!(double(text.as_bytes()), Some(value), "{text}");
        }
    }
}
