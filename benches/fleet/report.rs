//! The figures as a table, as data and as plots.

use std::path::Path;
use std::time::Duration;

use plotters::prelude::*;

use crate::measure::Cost;
use crate::others::Work;
use crate::proxy::Traffic;
use crate::{Contender, Run};

/// The medians of one contender's runs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    contender: Contender,
    work: &'static str,
    nodes: usize,
    rtt_ms: u64,
    runs: usize,
    #[serde(flatten)]
    cost: Cost,
    /// What passed, for each node; only where a proxy is between.
    per_node: Option<PerNode>,
}

#[derive(Debug, Clone, Copy, serde::Serialize)]
struct PerNode {
    connections: f64,
    round_trips: f64,
    kb_up: f64,
    kb_down: f64,
}

const HEAD: &str = "| what | nodes | added RTT | who | wall | CPU | memory | connections, round trips, kB up, kB down a node |\n\
                    |---|---|---|---|---|---|---|---|";

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Row {
    pub fn of(
        contender: Contender,
        work: Work,
        nodes: usize,
        rtt: Duration,
        runs: Vec<Run>,
    ) -> Self {
        let over = |key: fn(&Cost) -> f64| median(runs.iter().map(|r| key(&r.0)));
        let traffic: Vec<Traffic> = runs.iter().filter_map(|r| r.1).collect();
        let each =
            |key: fn(&Traffic) -> u64| median(traffic.iter().map(|t| key(t) as f64)) / nodes as f64;
        let per_node = (!traffic.is_empty()).then(|| PerNode {
            connections: each(|t| t.connections),
            round_trips: each(|t| t.round_trips),
            kb_up: each(|t| t.up) / 1000.0,
            kb_down: each(|t| t.down) / 1000.0,
        });
        Self {
            contender,
            work: work.name(),
            nodes,
            rtt_ms: u64::try_from(rtt.as_millis()).unwrap(),
            runs: runs.len(),
            cost: Cost {
                wall_s: over(|c| c.wall_s),
                cpu_s: over(|c| c.cpu_s),
                memory_mb: over(|c| c.memory_mb),
            },
            per_node,
        }
    }

    fn line(&self) -> String {
        let per_node = self.per_node.map_or(String::new(), |p| {
            format!("{:.0}, {:.1}, {:.1}, {:.1}", p.connections, p.round_trips, p.kb_up, p.kb_down)
        });
        let Cost { wall_s, cpu_s, memory_mb } = self.cost;
        format!(
            "| {} | {} | {} ms | {} | {wall_s:.2} s | {cpu_s:.2} s | {memory_mb:.0} MB | {per_node} |",
            self.work,
            self.nodes,
            self.rtt_ms,
            self.contender.name()
        )
    }

    /// As soon as it is known: the whole takes a while.
    pub fn print(&self) {
        println!("{}", self.line());
    }
}

/// Writes table, data and plots below `target/bench`, and the plots to `docs/benchmarks` if they are to be
/// kept.
pub fn write(rows: &[Row], save: bool) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = root.join("target/bench");
    std::fs::create_dir_all(&dir).unwrap();
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    std::fs::write(dir.join("fleet.json"), serde_json::to_string_pretty(rows).unwrap()).unwrap();
    let mut pictures = String::new();
    let mut plots = Vec::new();
    for &work in Work::ALL {
        let name = format!("wall-{}.svg", work.name().replace(' ', "-"));
        plots.push((name, wall_by_nodes(rows, work)));
    }
    plots.push(("wall-by-latency.svg".into(), wall_by_latency(rows)));
    plots.push(("kubastion-by-nodes.svg".into(), own_by_nodes(rows)));
    let docs = root.join("docs/benchmarks");
    let mut keep = vec![dir.clone()];
    if save {
        std::fs::create_dir_all(&docs).unwrap();
        keep.push(docs);
    }
    for (name, plot) in plots {
        let Some(svg) = plot else { continue };
        keep.iter().for_each(|d| std::fs::write(d.join(&name), &svg).unwrap());
        pictures.push_str(&format!("![{name}]({name})\n"));
    }
    let table = format!(
        "# Figures of the fleet bench\n\nOne run of `make bench`; what is what is in [the text](../benchmarks.md).\n\n\
         {pictures}\n{HEAD}\n{}\n",
        lines.join("\n")
    );
    keep.iter().for_each(|d| std::fs::write(d.join("fleet.md"), &table).unwrap());
    println!("\nAlso in {}", dir.display());
}

/// One line of a plot.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

fn series(rows: &[Row], key: impl Fn(&Row) -> Option<(String, f64, f64)>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for row in rows {
        let Some((name, x, y)) = key(row) else { continue };
        match all.iter_mut().find(|s| s.name == name) {
            Some(s) => s.points.push((x, y)),
            None => all.push(Series { name, points: vec![(x, y)] }),
        }
    }
    for s in &mut all {
        s.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    all
}

fn wall_by_nodes(rows: &[Row], work: Work) -> Option<String> {
    let all = series(rows, |r| {
        let shown = r.rtt_ms == 0 && r.work == work.name();
        shown.then(|| (r.contender.name().to_owned(), r.nodes as f64, r.cost.wall_s))
    });
    draw(&format!("{}, no added latency", work.name()), ["nodes", "wall (s)"], &all, Scale::Log)
}

/// The largest number of nodes that was measured at every latency.
fn wall_by_latency(rows: &[Row]) -> Option<String> {
    let most = rows.iter().filter(|r| r.rtt_ms > 0).map(|r| r.nodes).max()?;
    let all = series(rows, |r| {
        let shown = r.nodes == most && r.contender <= Contender::OpenSsh;
        let name = format!("{}, {}", r.contender.name(), r.work);
        shown.then_some((name, r.rtt_ms as f64, r.cost.wall_s))
    });
    draw(&format!("{most} nodes"), ["added round-trip time (ms)", "wall (s)"], &all, Scale::Linear)
}

fn own_by_nodes(rows: &[Row]) -> Option<String> {
    let own = |r: &Row| r.contender == Contender::Kubastion && r.rtt_ms == 0;
    let mut all = series(rows, |r| {
        own(r).then(|| (format!("CPU (s), {}", r.work), r.nodes as f64, r.cost.cpu_s))
    });
    all.extend(series(rows, |r| {
        own(r).then(|| (format!("memory (MB), {}", r.work), r.nodes as f64, r.cost.memory_mb))
    }));
    draw("kubastion's own process", ["nodes", "CPU (s), memory (MB)"], &all, Scale::Log)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
}

/// The SVG of a plot; none without a line in it.
fn draw(title: &str, axes: [&str; 2], all: &[Series], scale: Scale) -> Option<String> {
    let points = || all.iter().flat_map(|s| &s.points);
    if all.iter().all(|s| s.points.len() < 2) {
        return None;
    }
    let most = |key: fn(&(f64, f64)) -> f64| points().map(key).fold(0.0, f64::max);
    let least = |key: fn(&(f64, f64)) -> f64| points().map(key).fold(f64::MAX, f64::min);
    let (x, y) = (most(|p| p.0), most(|p| p.1));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (760, 460)).into_drawing_area();
        area.fill(&WHITE).unwrap();
        let mut builder = ChartBuilder::on(&area);
        builder
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60);
        macro_rules! chart {
            ($x:expr, $y:expr) => {{
                let mut chart = builder.build_cartesian_2d($x, $y).unwrap();
                chart.configure_mesh().x_desc(axes[0]).y_desc(axes[1]).draw().unwrap();
                for (i, s) in all.iter().enumerate() {
                    let color = Palette99::pick(i).to_rgba();
                    let line =
                        LineSeries::new(s.points.clone(), color.stroke_width(2)).point_size(3);
                    chart
                        .draw_series(line)
                        .unwrap()
                        .label(&s.name)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
                }
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::UpperLeft)
                    .background_style(WHITE.mix(0.8))
                    .border_style(BLACK.mix(0.3))
                    .draw()
                    .unwrap();
            }};
        }
        match scale {
            Scale::Linear => chart!(0.0..x * 1.05, 0.0..y * 1.3),
            Scale::Log => chart!(
                (least(|p| p.0) * 0.8..x * 1.3).log_scale(),
                (least(|p| p.1) * 0.7..y * 3.0).log_scale()
            ),
        }
        area.present().unwrap();
    }
    Some(svg)
}
