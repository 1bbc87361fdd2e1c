// Figures as a person reads them.

const scaled = (value, units, step) => {
  let index = 0;
  while (value >= step && index < units.length - 1) {
    value /= step;
    index += 1;
  }
  return `${value < 10 && index > 0 ? value.toFixed(1) : Math.round(value)} ${units[index]}`;
};

export const bytes = (count) => scaled(count, ["B", "kB", "MB", "GB", "TB"], 1000);
export const bitRate = (bytesPerSecond) =>
  scaled(bytesPerSecond * 8, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"], 1000);
export const count = (number) => number.toLocaleString("en");
export const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 1 ? 1 : 0)} %`;

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}
