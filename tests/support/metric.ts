/** The sum of a metric over its labels, in Prometheus's text format; undefined when it is not there. */
export function metricIn(text: string, name: string): number | undefined {
  const values = text.split("\n").flatMap((line) => {
    const [, found, value] = /^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)/.exec(line) ?? [];
    return found === name ? [Number(value)] : [];
  });
  return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0);
}
