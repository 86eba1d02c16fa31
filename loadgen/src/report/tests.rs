//! Tests that need whole reports, which are made up.

use hdrhistogram::Histogram;

use super::html::{Group, page};
use super::{Check, Latency, Phase, Report, Series, histogram, print_summary};

/// A storm of a broker that is `slowness` times as slow as the best.
fn storm(label: &str, slowness: f64) -> Report {
    let mut report = Report::new("storm", label.into());
    report.arguments =
        "storm --broker 127.0.0.1:1883 --publishers 20000 --rate 50000".split(' ').map(String::from).collect();
    report.duration_s = 64.2;
    let connect_s = 6.0 * slowness;
    let ends = [0.0, connect_s, connect_s + 20.0, connect_s + 21.5 + slowness, connect_s + 42.0];
    let names = ["connect", "before", "storm", "after"];
    let phase =
        |(index, name): (usize, &&str)| Phase { name: (*name).into(), from_s: ends[index], to_s: ends[index + 1] };
    report.phases = names.iter().enumerate().map(phase).collect();
    report.check(check("wills_lost", "Wills that were never delivered", 0, false));
    report.check(check("duplicates", "Messages delivered more than once at QoS 1", 17, true));
    report.check(check(
        "messages_lost",
        "Messages that were never delivered",
        if slowness > 2.0 { 3 } else { 0 },
        false,
    ));
    report.higher("wills_per_s", "Wills delivered in the second of their peak", 84_211.0 / slowness, "/s");
    report.lower("will_p99_us", "Time from disconnect to will, 99 %", 412_000.0 * slowness, "µs");
    report.lower("delivery_during_p99_us", "Delivery during the storm, 99 %", 2710.0 * slowness * slowness, "µs");
    report.lower("broker_cpu_us_per_delivery", "Processor time of the broker per delivery", 3.42 * slowness, "µs");
    report.lower("broker_memory_bytes", "Greatest memory of the broker", 388.0e6 * slowness, "B");
    report.higher("deliveries", "Deliveries", 2_400_311.0, "");
    report.figure("broken", "A figure that could not be measured", f64::NAN, "%");
    for (name, title, median_us) in
        [("before", "before", 180.0), ("during", "during", 900.0), ("after", "after", 210.0)]
    {
        let values = spread(median_us * slowness, if name == "during" { 2.2 } else { 0.9 });
        report.latency(Latency::new(
            &format!("delivery_{name}"),
            &format!("Delivery {title}"),
            "Delivery of messages",
            &values,
        ));
    }
    let wills = spread(120_000.0 * slowness, 0.7);
    report.latency(Latency::new("will_lateness", "Will", "Time from disconnect to will", &wills));
    let start = ends[2];
    report.series.push(series("deliveries", "Deliveries", "Messages", "/s", ends[4], |s| {
        if s < ends[1] { 0.0 } else { 50_000.0 - 12_000.0 * bump(s - start, slowness) + 900.0 * (s * 3.0).sin() }
    }));
    report
        .series
        .push(series("wills", "Wills", "Messages", "/s", ends[4], |s| 84_000.0 / slowness * bump(s - start, slowness)));
    report.series.push(series("latency_p50", "Median", "Latency of delivery", "µs", ends[4], |s| {
        if s < ends[1] {
            f64::NAN
        } else {
            180.0 + 700.0 * slowness * bump(s - start, slowness) + 20.0 * (s * 5.0).sin()
        }
    }));
    report.series.push(series("latency_p99", "99 %", "Latency of delivery", "µs", ends[4], |s| {
        if s < ends[1] {
            f64::NAN
        } else {
            900.0 + 60_000.0 * slowness * bump(s - start, slowness) + 150.0 * (s * 7.0).cos()
        }
    }));
    report.series.push(series("memory", "Broker", "Memory", "B", ends[4], |s| 3e8 * slowness * (s / 20.0).min(1.0)));
    report.warnings.push("The generator used 97 % of one core <of 2>: latencies may be its own.".into());
    report
}

fn check(name: &str, title: &str, count: u64, permitted: bool) -> Check {
    let examples = (0..count.min(2)).map(|case| format!("client lg-{case} topic will/{case} & <more>")).collect();
    Check { name: name.into(), title: title.into(), count, permitted, examples }
}

/// A distribution around a median in microseconds with a long tail.
fn spread(median_us: f64, tail: f64) -> Histogram<u64> {
    let mut values = histogram();
    for index in 0..20_000 {
        let quantile = (f64::from(index) + 0.5) / 20_000.0;
        let odds = quantile / (1.0 - quantile);
        values.record((median_us * 1e3 * odds.powf(tail / 4.0)) as u64).expect("within bounds");
    }
    values
}

fn series(name: &str, title: &str, chart: &str, unit: &str, end_s: f64, value: impl Fn(f64) -> f64) -> Series {
    let points = (0..).map(|step| f64::from(step) * 0.25).take_while(|second| *second <= end_s);
    let points = points.map(|second| (second, value(second))).collect();
    Series { name: name.into(), title: title.into(), chart: chart.into(), unit: unit.into(), points }
}

/// What happens during a storm: a quick rise and a slower fall.
fn bump(since_s: f64, slowness: f64) -> f64 {
    if since_s < 0.0 { 0.0 } else { (since_s * 4.0).min(1.0) * (-since_s / slowness).exp() }
}

/// What must be true of every page.
fn assert_sound(page: &str) {
    assert!(!page.contains("NaN") && !page.contains(">inf"));
    for tag in ["svg", "table", "tr", "td", "ul", "li", "figure", "section", "div", "footer", "details", "main"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    for colour in page.split("=\"#").skip(1).filter_map(|rest| rest.get(..6)).filter(|hex| hex.find('"').is_none()) {
        let known = include_str!("page.css").contains(&format!("\"#{colour}\""));
        assert!(known, "the style sheet must know #{colour} to exchange it for a dark background");
    }
    let references = page.matches("http").count() - page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
    assert_eq!(references, 0, "the page must need nothing but itself");
}

#[test]
fn a_single_run_shows_everything() {
    let report = storm("<willow> & \"co\"", 1.0);
    let page = page("Storm", &[Group { title: "One storm".into(), reports: vec![&report] }]);
    assert_sound(&page);
    for series in &report.series {
        assert!(page.contains(&format!("{}</li>", series.title)) && page.contains(&series.chart), "{}", series.title);
    }
    for latency in &report.latencies {
        assert!(page.contains(&format!("{}</li>", latency.title)), "{}", latency.title);
    }
    assert!(page.contains("&lt;willow&gt; &amp; &quot;co&quot;") && !page.contains("<willow>"));
    assert!(page.contains("PASSED") && !page.contains("FAILED"));
}

#[test]
fn a_comparison_names_every_line_by_its_run() {
    let (ours, theirs) = (storm("willowmq", 1.0), storm("other", 2.5));
    let page = page(
        "Comparison",
        &[
            Group { title: "Storm".into(), reports: vec![&ours, &theirs] },
            Group { title: "Again".into(), reports: vec![&theirs, &theirs] },
            Group { title: "Nothing".into(), reports: vec![] },
        ],
    );
    assert_sound(&page);
    for (label, series) in
        ["willowmq", "other"].iter().flat_map(|label| ours.series.iter().map(move |one| (label, one)))
    {
        assert!(page.contains(&format!("{label}: {}</li>", series.title)));
    }
    assert!(page.contains("other (2)") && page.contains("×2.50") && page.contains("FAILED"));
    assert!(page.contains("<b>FAILED</b>: 3 Messages that were never delivered</span>"), "without what is permitted");
    assert!(!page.contains("Nothing</h2>"));
}

#[test]
fn an_empty_report_is_a_page_and_a_summary() {
    let mut report = Report::new("connect", "nobody".into());
    assert_sound(&page("Empty", &[Group { title: "Empty".into(), reports: vec![&report, &report] }]));
    assert_sound(&page("Nothing at all", &[]));
    let mut out = Vec::new();
    print_summary(&mut out, &report).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "\nconnect · nobody · 0 s · PASSED\n═══════════════════════════════\n");
    report.series.push(series("none", "None", "Nothing over time", "/s", -1.0, |_| 0.0));
    report.latency(Latency::new("none", "None", "Nothing late", &histogram()));
    let page = page("Hollow", &[Group { title: "Hollow".into(), reports: vec![&report] }]);
    assert_sound(&page);
    assert!(!page.contains("<figure>"), "a plot of nothing");
}

#[test]
fn the_summary_names_everything_in_columns() {
    let report = storm("willowmq", 2.5);
    let mut out = Vec::new();
    print_summary(&mut out, &report).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("NaN") && text.contains("storm · willowmq · 64.2 s · FAILED"));
    assert!(text.contains("permitted") && text.contains("  ! The generator"));
    let row = |start: &str| text.lines().rfind(|line| line.trim_start().starts_with(start)).unwrap().chars().count();
    assert_eq!(row("Latencies"), row("Delivery before"));
    assert_eq!(row("Deliveries "), row("Greatest memory"));
}
