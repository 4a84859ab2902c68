//! The most memory that this process has held.

/// Peak resident memory of this process in bytes; `None` where the system does not tell.
///
/// Source: `VmHWM` in `/proc/self/status` (Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    parse_high_water_mark(&status)
}

fn parse_high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kibibytes() {
        assert_eq!(parse_high_water_mark("Name:\tx\nVmHWM:\t   12 kB\nVmRSS:\t 4 kB\n"), Some(12 * 1024));
        assert_eq!(parse_high_water_mark("Name:\tx\n"), None);
        assert_eq!(parse_high_water_mark("VmHWM: 99999999999999999999 kB"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn grows_with_what_is_held() {
        let before = peak_memory().unwrap();
        let size = before as usize + (64 << 20);
        let held = vec![1_u8; size];
        // The whole of `held` is resident, so the mark cannot lie below its size.
        assert!(peak_memory().unwrap() >= size as u64, "{} bytes held", held.len());
    }
}
