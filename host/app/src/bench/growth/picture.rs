//! Curves of `bench growth` as a picture: a line for each cost, as a multiple of what it was at its smallest size, so that
//! costs of any magnitude share one axis and one that does not grow is level. SVG without scripts or fonts of its own; its
//! colours follow the reader's choice of light or dark.

use super::{COSTS, Cost};
use serde_json::Value;
use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 460.0;
/// Edges of the plot.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 78.0;
const BOTTOM: f64 = 394.0;
/// Least distance of two labels.
const LABELS_APART: f64 = 19.0;

const STYLE: &str = "
  svg { font-family: system-ui, sans-serif; font-size: 13px; }
  .page { fill: #ffffff; } text { fill: #1f2328; } .quiet { fill: #59636e; }
  .head { font-size: 16px; font-weight: 600; }
  .grid { stroke: #d1d9e0; } .axis { stroke: #818b98; } .one { stroke: #818b98; stroke-dasharray: 2 4; }
  .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
  .lead { fill: none; stroke-width: 1; opacity: 0.55; }
  .of-backlog { stroke-dasharray: 8 5; } .of-configs { stroke-dasharray: 2 5; }
  .k0 { stroke: #0072b2; } .k1 { stroke: #b35900; } .k2 { stroke: #00795a; } .k3 { stroke: #a8437f; }
  .k4 { stroke: #7a6a00; } .k5 { stroke: #c4320a; } .k6 { stroke: #6639ba; } .k7 { stroke: #2f6f7e; }
  .dot { stroke-width: 2; fill: #ffffff; stroke-dasharray: none; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } text { fill: #e6edf3; } .quiet { fill: #9198a1; }
    .grid { stroke: #2a313a; } .axis { stroke: #656c76; } .one { stroke: #656c76; }
    .k0 { stroke: #58a6ff; } .k1 { stroke: #ffa657; } .k2 { stroke: #3fb98a; } .k3 { stroke: #f296c8; }
    .k4 { stroke: #d9c84a; } .k5 { stroke: #ff8063; } .k6 { stroke: #bc9cff; } .k7 { stroke: #6fc3d4; }
    .dot { fill: #0d1117; }
  }
";

/// A cost's points, sizes rising.
struct Curve {
    /// Place in [`COSTS`], which its colour follows.
    number: usize,
    cost: &'static Cost,
    points: Vec<(f64, f64)>,
}

impl Curve {
    fn of(document: &Value, number: usize, cost: &'static Cost) -> Option<Self> {
        let points = document["points"].as_array()?.iter();
        let points = points.filter(|point| point["cost"] == cost.name);
        let points: Vec<_> = points
            .filter_map(|point| Some((point["size"].as_f64()?, point["us"].as_f64()?)))
            .collect();
        (!points.is_empty()).then_some(Self {
            number,
            cost,
            points,
        })
    }

    /// Sizes with what the cost is there as a multiple of the first.
    fn multiples(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let first = self.points[0].1.max(1e-9);
        self.points
            .iter()
            .map(move |(size, us)| (*size, us / first))
    }

    fn last(&self) -> (f64, f64) {
        self.multiples().last().unwrap_or((0.0, 1.0))
    }

    fn label(&self) -> String {
        let us = self.points.last().map_or(0.0, |(_, us)| *us);
        let Cost { what, of, .. } = self.cost;
        format!("{what}, by {of}: {}, {:.2} ×", time(us), self.last().1)
    }
}

/// Where sizes and multiples are in the picture.
struct Axes {
    sizes: Vec<f64>,
    low: f64,
    high: f64,
    top: f64,
    step: f64,
}

impl Axes {
    fn of(curves: &[Curve]) -> Self {
        let points = || curves.iter().flat_map(Curve::multiples);
        let mut sizes: Vec<f64> = points().map(|(size, _)| size).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let some = || sizes.iter().copied().filter(|size| *size > 0.0);
        let low = some().fold(f64::INFINITY, f64::min).min(1e12).log10();
        let high = some().fold(1.0, f64::max).log10().max(low);
        let most = points().map(|(_, multiple)| multiple).fold(1.0, f64::max);
        let step = match most {
            most if most <= 1.9 => 0.5,
            most if most <= 4.8 => 1.0,
            most => (most / 5.0).ceil(),
        };
        Self {
            // A decade to the left of the smallest stands for nothing at all.
            low: low - 1.0,
            high,
            top: ((most * 1.05 / step).ceil() * step).max(2.0),
            step,
            sizes,
        }
    }

    fn x(&self, size: f64) -> f64 {
        let decade = if size > 0.0 { size.log10() } else { self.low };
        LEFT + (RIGHT - LEFT) * (decade - self.low) / (self.high - self.low)
    }

    fn y(&self, multiple: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * multiple / self.top
    }
}

/// Draws the document that [`super::growth`] made.
pub(crate) fn picture(document: &Value) -> String {
    let curves = COSTS.iter().enumerate();
    let curves: Vec<Curve> = curves
        .filter_map(|(number, cost)| Curve::of(document, number, cost))
        .collect();
    let axes = Axes::of(&curves);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         role=\"img\" aria-labelledby=\"head\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n"
    );
    let store = escaped(document["store"].as_str().unwrap_or_default());
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text id=\"head\" class=\"head\" x=\"24\" y=\"32\">Costs that must not grow</text>\n\
         <text class=\"quiet\" x=\"24\" y=\"54\">Each as a multiple of what it is with the least there is; {store}</text>"
    );
    frame(&mut svg, &axes);
    let heights = label_heights(&curves, &axes);
    for (curve, height) in curves.iter().zip(heights) {
        draw(&mut svg, curve, &axes, height);
    }
    svg + "</svg>\n"
}

/// Grid, axes and what they are of.
fn frame(svg: &mut String, axes: &Axes) {
    let mut multiple = 0.0;
    while multiple <= axes.top + 1e-9 {
        let y = axes.y(multiple);
        let class = if multiple == 0.0 { "axis" } else { "grid" };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\
             <text class=\"quiet\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{multiple}</text>",
            LEFT - 9.0,
            y + 4.5
        );
        multiple += axes.step;
    }
    let one = axes.y(1.0);
    let _ = writeln!(
        svg,
        "<line class=\"one\" x1=\"{LEFT}\" y1=\"{one:.1}\" x2=\"{RIGHT}\" y2=\"{one:.1}\"/>"
    );
    for size in &axes.sizes {
        let x = axes.x(*size);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>\
             <text class=\"quiet\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 19.0,
            count(*size)
        );
    }
    let (middle, height) = (f64::midpoint(LEFT, RIGHT), f64::midpoint(TOP, BOTTOM));
    let _ = writeln!(
        svg,
        "<text class=\"quiet\" x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">rows of history, waiting executions, or \
         configs (logarithmic)</text>\n\
         <text class=\"quiet\" x=\"20\" y=\"{height}\" text-anchor=\"middle\" transform=\"rotate(-90 20 {height})\">times \
         the first</text>",
        BOTTOM + 44.0
    );
}

/// A curve with its points and its label.
fn draw(svg: &mut String, curve: &Curve, axes: &Axes, label: f64) {
    let at: Vec<(f64, f64)> = curve
        .multiples()
        .map(|(size, multiple)| (axes.x(size), axes.y(multiple)))
        .collect();
    let (key, of) = (curve.number, curve.cost.of);
    let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<g id=\"{}\">\n<polyline class=\"line k{key} of-{of}\" points=\"{}\"/>",
        curve.cost.name,
        path.join(" ")
    );
    for (x, y) in &at {
        let _ = writeln!(
            svg,
            "<circle class=\"dot k{key}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"/>"
        );
    }
    let (x, y) = at.last().copied().unwrap_or_default();
    let _ = writeln!(
        svg,
        "<polyline class=\"lead k{key}\" points=\"{:.1},{y:.1} {:.1},{label:.1} {:.1},{label:.1}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n</g>",
        x + 5.0,
        RIGHT + 16.0,
        RIGHT + 24.0,
        RIGHT + 29.0,
        label + 4.5,
        escaped(&curve.label())
    );
}

/// Where the labels are: near the ends of their curves, and apart.
fn label_heights(curves: &[Curve], axes: &Axes) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = curves
        .iter()
        .map(|curve| axes.y(curve.last().1))
        .enumerate()
        .collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut least = TOP;
    for (_, y) in &mut order {
        *y = y.max(least);
        least = *y + LABELS_APART;
    }
    let mut most = BOTTOM;
    for (_, y) in order.iter_mut().rev() {
        *y = y.min(most);
        most = *y - LABELS_APART;
    }
    let mut heights = vec![0.0; curves.len()];
    for (curve, y) in order {
        heights[curve] = y;
    }
    heights
}

/// 0, 25k, 1M.
fn count(size: f64) -> String {
    match size {
        size if size >= 1e6 => format!("{}M", size / 1e6),
        size if size >= 1e3 => format!("{}k", size / 1e3),
        size => format!("{size}"),
    }
}

/// 8.3 µs, 120 µs, 2.5 ms.
fn time(us: f64) -> String {
    match us {
        us if us >= 1000.0 => format!("{:.1} ms", us / 1000.0),
        us if us >= 100.0 => format!("{us:.0} µs"),
        us => format!("{us:.1} µs"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Elements that are closed in the order they were opened; fails where the text is not well formed.
    fn elements(svg: &str) -> Vec<String> {
        let (mut open, mut all) = (Vec::new(), Vec::new());
        let mut rest = svg;
        while let Some((text, tail)) = rest.split_once('<') {
            assert!(
                !text.contains('>') || open.last() == Some(&"style"),
                "{text}"
            );
            let (tag, tail) = tail.split_once('>').expect("a tag that ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .expect("a name");
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name), "{tag}"),
                (false, alone) => {
                    all.push(tag.to_owned());
                    if !alone {
                        open.push(name);
                    }
                }
            }
            rest = tail;
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        all
    }

    fn document() -> Value {
        let mut points = Vec::new();
        for (number, cost) in COSTS.iter().enumerate() {
            for (place, size) in [0, 10_000, 100_000, 1_000_000].into_iter().enumerate() {
                let us = 40.0 * (number + 1) as f64 * (1.0 + 0.02 * place as f64);
                points.push(json!({"cost": cost.name, "size": size, "us": us}));
            }
        }
        json!({"points": points, "store": "a <store> & more"})
    }

    #[test]
    fn every_cost_has_its_line_and_the_picture_is_well_formed() {
        let svg = picture(&document());
        let all = elements(&svg);
        for cost in COSTS {
            let group = format!("g id=\"{}\"", cost.name);
            assert_eq!(
                all.iter().filter(|tag| **tag == group).count(),
                1,
                "{group}"
            );
            assert!(
                svg.contains(&format!("{}, by {}: ", cost.what, cost.of)),
                "{svg}"
            );
        }
        let lines = all
            .iter()
            .filter(|tag| tag.starts_with("polyline class=\"line"));
        for line in lines.clone() {
            let points = line.split("points=\"").nth(1).expect("points");
            assert_eq!(
                points
                    .split(' ')
                    .filter(|point| point.contains(','))
                    .count(),
                4,
                "{line}"
            );
        }
        assert_eq!(lines.count(), COSTS.len());
        for mark in [
            ">0<",
            ">10k<",
            ">100k<",
            ">1M<",
            "a &lt;store&gt; &amp; more",
            "1.06 ×",
        ] {
            assert!(svg.contains(mark), "{mark} not in\n{svg}");
        }
    }

    #[test]
    fn sizes_lie_by_their_logarithm_and_labels_apart() {
        let document = document();
        let curves = COSTS.iter().enumerate();
        let curves: Vec<Curve> = curves
            .filter_map(|(number, cost)| Curve::of(&document, number, cost))
            .collect();
        let axes = Axes::of(&curves);
        let x: Vec<f64> = axes.sizes.iter().map(|size| axes.x(*size)).collect();
        assert!(
            (x[0] - LEFT).abs() < 1e-9 && (x[3] - RIGHT).abs() < 1e-9,
            "{x:?}"
        );
        assert!((x[2] - x[1] - (x[3] - x[2])).abs() < 1e-6, "{x:?}");
        let mut heights = label_heights(&curves, &axes);
        heights.sort_by(f64::total_cmp);
        assert!(
            heights
                .windows(2)
                .all(|pair| pair[1] - pair[0] >= LABELS_APART - 1e-9)
        );
        assert!(heights[0] >= TOP && heights[heights.len() - 1] <= BOTTOM + 1e-9);
    }

    #[test]
    fn a_single_point_and_none_at_all_are_drawn() {
        let one = json!({"points": [{"cost": "run", "size": 300, "us": 5.0}], "store": "s"});
        assert!(
            elements(&picture(&one))
                .iter()
                .any(|tag| tag == "g id=\"run\"")
        );
        assert!(!picture(&one).contains("NaN") && !picture(&json!({})).contains("NaN"));
        elements(&picture(&json!({})));
    }
}
