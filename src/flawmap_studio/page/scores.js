// Scores against a threshold: what it catches, what it misses, and a picture of both. No part of it touches the document.

export function outcomeAt(threshold, shown, goodScores) {
  const good = shown.filter((image) => image.label === "good");
  const defects = shown.filter((image) => image.label === "defect");
  const above = (list) => list.filter((image) => image.score > threshold).length;
  return {
    nGood: good.length, falseAlarms: above(good), nDefects: defects.length, missed: defects.length - above(defects),
    nOther: shown.length - good.length - defects.length, anomalous: above(shown),
    // of n good images that the model had not seen, k above: the next one is above with (k + 1) / (n + 1), at most
    rate: goodScores.length ? (goodScores.filter((score) => score > threshold).length + 1) / (goodScores.length + 1) : null,
  };
}

export function rangeOf(shown, goodScores, threshold) {
  const values = [...shown.map((image) => image.score), ...goodScores, ...(threshold === null ? [] : [threshold])];
  if (!values.length) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = (high - low || 1) * 0.04;
  return [low - margin, high + margin];
}

// Counts per bin and label, for a histogram.
export function binned(shown, [low, high], bins) {
  const counts = { good: Array(bins).fill(0), defect: Array(bins).fill(0), other: Array(bins).fill(0) };
  for (const image of shown) {
    const bin = Math.min(bins - 1, Math.max(0, Math.floor(((image.score - low) / (high - low)) * bins)));
    counts[image.label === "good" || image.label === "defect" ? image.label : "other"][bin] += 1;
  }
  return counts;
}
