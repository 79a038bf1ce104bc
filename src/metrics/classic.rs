//! Converts OpenMetrics to the text format 0.0.4 of Prometheus, for programs that read only that. Pure.

use std::collections::BTreeSet;

/// The same metrics in the format 0.0.4. There, a counter is declared with the name of its samples (`_total`), and units,
/// exemplars and the mark of the end do not exist.
pub(crate) fn from_open_metrics(text: &str) -> String {
    let counters: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        put_line(line, &counters, &mut classic);
        classic.push('\n');
    }
    classic
}

fn put_line(line: &str, counters: &BTreeSet<&str>, out: &mut String) {
    for keyword in ["# TYPE ", "# HELP "] {
        let Some((name, rest)) = line.strip_prefix(keyword).and_then(|declared| declared.split_once(' ')) else {
            continue;
        };
        let suffix = if counters.contains(name) { "_total" } else { "" };
        let rest = if keyword == "# TYPE " && rest == "unknown" { "untyped" } else { rest };
        out.extend([keyword, name, suffix, " ", rest]);
        return;
    }
    // An exemplar follows the value.
    out.push_str(line.split_once(" # {").map_or(line, |(sample, _)| sample));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_declared_with_their_suffix_and_what_the_format_lacks_is_left_out() {
        let open_metrics = "# HELP ich_a Things.\n# TYPE ich_a counter\nich_a_total{reason=\"x\"} 1\n# HELP ich_b Open.\n\
                            # TYPE ich_b gauge\nich_b 2\n# HELP ich_c Time.\n# TYPE ich_c histogram\n# UNIT ich_c seconds\n\
                            ich_c_bucket{le=\"1.0\"} 3 # {id=\"7\"} 0.5\nich_c_sum 4.5\nich_c_count 3\n# TYPE ich_d unknown\n\
                            ich_d 5\n# EOF\n";
        let classic = "# HELP ich_a_total Things.\n# TYPE ich_a_total counter\nich_a_total{reason=\"x\"} 1\n# HELP ich_b Open.\n\
                       # TYPE ich_b gauge\nich_b 2\n# HELP ich_c Time.\n# TYPE ich_c histogram\nich_c_bucket{le=\"1.0\"} 3\n\
                       ich_c_sum 4.5\nich_c_count 3\n# TYPE ich_d untyped\nich_d 5\n";
        assert_eq!(from_open_metrics(open_metrics), classic);
    }
}
