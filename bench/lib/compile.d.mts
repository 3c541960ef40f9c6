export function compile(
  source: string,
  libraries?: string[],
): { program: string; missing?: undefined } | { program?: undefined; missing: string };
export function programOf(source: string): string;
