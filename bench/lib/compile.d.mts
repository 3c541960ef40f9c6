export function compile(
  source: string,
): { program: string; missing?: undefined } | { program?: undefined; missing: string };
export function programOf(source: string): string;
