//! The memory that this process has held at most, and what it may still take.

/// Peak resident memory of this process in bytes; `None` where the system does not tell.
///
/// Source: `VmHWM` in `/proc/self/status` (Linux).
pub fn peak_memory() -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Resident memory of this process in bytes, at this moment; `None` where the system does not tell.
///
/// Source: `VmRSS` in `/proc/self/status` (Linux).
pub fn resident_memory() -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Bytes that can be taken without swapping, within the limit of this process's control group if it has one;
/// `None` where the system does not tell.
///
/// Source: `MemAvailable` in `/proc/meminfo`; of control groups, version 2, `memory.max`, `memory.current`, and
/// `inactive_file` in `memory.stat` for what the kernel gives back at need (Linux).
pub fn available_memory() -> Option<u64> {
    let available = kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let group = |name| std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok();
    let figures = group("max").zip(group("current")).zip(group("stat"));
    let left = figures.and_then(|((max, current), stat)| group_left(&max, &current, &stat));
    Some(left.map_or(available, |left| left.min(available)))
}

/// The value of a line "name    123 kB", in bytes.
fn kibibytes(lines: &str, name: &str) -> Option<u64> {
    let line = lines.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What a control group leaves; none where it sets no limit, which it calls `max`.
fn group_left(max: &str, current: &str, stat: &str) -> Option<u64> {
    let [max, current] = [max, current].map(|text| text.trim().parse::<u64>().ok());
    let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.trim().parse().ok()?;
    Some(max?.saturating_sub(current?.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kibibytes() {
        let read = |status| kibibytes(status, "VmHWM:");
        assert_eq!(read("Name:\tx\nVmHWM:\t   12 kB\nVmRSS:\t 4 kB\n"), Some(12 * 1024));
        assert_eq!(read("Name:\tx\n"), None);
        assert_eq!(read("VmHWM: 99999999999999999999 kB"), None);
    }

    #[test]
    fn a_control_group_may_set_a_limit() {
        let stat = "anon 700\ninactive_file 300\nactive_file 0\n";
        assert_eq!(group_left("4096\n", "1000\n", stat), Some(3396));
        assert_eq!(group_left("4096\n", "5000\n", stat), Some(0));
        assert_eq!(group_left("max\n", "5000\n", stat), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn some_memory_is_left_but_not_all() {
        let total = kibibytes(&std::fs::read_to_string("/proc/meminfo").unwrap(), "MemTotal:").unwrap();
        assert!((1..total).contains(&available_memory().unwrap()));
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
