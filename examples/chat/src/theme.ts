/** Switches between light and dark; until somebody does, the page is as the system is. */

const key = "theme";

const isDark = () =>
  (localStorage.getItem(key) ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

export function showTheme(): void {
  document.documentElement.style.colorScheme = localStorage.getItem(key) ?? "";
}

export function switchTheme(): void {
  localStorage.setItem(key, isDark() ? "light" : "dark");
  showTheme();
}
