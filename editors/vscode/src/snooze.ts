/** Some quiet time: nothing unasked until its end. */
import { window, type Disposable, type QuickPickItem } from "vscode";

const MINUTE = 60_000;
const CHOICES = [5, 15, 30, 60];

export class Snooze implements Disposable {
  private until = 0; // milliseconds since 1970
  private timer: NodeJS.Timeout | undefined;

  /** `onChange` is called at its beginning and at its end. */
  constructor(private readonly onChange: () => void) {}

  get isOn(): boolean {
    return Date.now() < this.until;
  }

  /** Its end as a time of day. */
  get end(): string {
    return new Date(this.until).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  }

  start(minutes: number): void {
    clearTimeout(this.timer);
    this.until = Date.now() + minutes * MINUTE;
    this.timer = setTimeout(this.onChange, minutes * MINUTE + 1);
    this.onChange();
  }

  stop(): void {
    this.start(0);
  }

  /** Start it for as long as the user chooses. */
  async choose(): Promise<void> {
    const items = CHOICES.map((minutes): QuickPickItem & { minutes: number } => ({ label: `${minutes} minutes`, minutes }));
    const chosen = await window.showQuickPick(items, { title: "Inpaint", placeHolder: "Show nothing unasked for" });
    if (chosen) {
      this.start(chosen.minutes);
    }
  }

  dispose(): void {
    clearTimeout(this.timer);
  }
}
